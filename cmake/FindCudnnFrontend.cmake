# Finds the header-only cudnn-frontend (the pip package nvidia-cudnn-frontend ships it) and cuDNN's own headers, and defines
# CudnnFrontend::CudnnFrontend. libcudnn itself is opened at run time: it comes with LibTorch.
#
# Looked for in CudnnFrontend_ROOT, CMAKE_PREFIX_PATH, beside LibTorch (pip puts both into one folder) and in the cache that
# scripts/setup.sh fills.

get_filename_component(_packages "${LibTorch_ROOT}" DIRECTORY)
set(_caches $ENV{LONGTAKE_CACHE} $ENV{XDG_CACHE_HOME}/longtake $ENV{HOME}/.cache/longtake)
set(_folders)
foreach(_cache ${_caches})
  file(GLOB _found ${_cache}/cudnn-frontend-*)
  list(APPEND _folders ${_found})
endforeach()
find_path(CudnnFrontend_INCLUDE_DIR cudnn_frontend.h
  PATHS ${_packages} ${_folders} PATH_SUFFIXES include)
find_path(CudnnFrontend_CUDNN_INCLUDE_DIR cudnn_graph.h
  HINTS ${_packages}/nvidia/cudnn/include ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})

if(CudnnFrontend_INCLUDE_DIR)
  file(STRINGS ${CudnnFrontend_INCLUDE_DIR}/cudnn_frontend_version.h _lines
    REGEX "#define CUDNN_FRONTEND_(MAJOR|MINOR|PATCH)_VERSION ")
  string(REGEX REPLACE "[^0-9;]+" "" _numbers "${_lines}")
  string(REPLACE ";" "." CudnnFrontend_VERSION "${_numbers}")
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(CudnnFrontend
  REQUIRED_VARS CudnnFrontend_INCLUDE_DIR CudnnFrontend_CUDNN_INCLUDE_DIR VERSION_VAR CudnnFrontend_VERSION
  REASON_FAILURE_MESSAGE "pip install nvidia-cudnn-frontend==1.32.0, or point CudnnFrontend_ROOT at its headers")
if(CudnnFrontend_FOUND AND NOT TARGET CudnnFrontend::CudnnFrontend)
  add_library(CudnnFrontend::CudnnFrontend INTERFACE IMPORTED)
  target_include_directories(CudnnFrontend::CudnnFrontend SYSTEM INTERFACE
    ${CudnnFrontend_INCLUDE_DIR} ${CudnnFrontend_CUDNN_INCLUDE_DIR} ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
  target_link_libraries(CudnnFrontend::CudnnFrontend INTERFACE ${CMAKE_DL_LIBS})
endif()
