# Finds LibTorch in CMAKE_PREFIX_PATH, LibTorch_ROOT or the torch package of python3, and defines LibTorch::LibTorch.
# A CPU-only program links torch_cpu and c10 alone; with LONGTAKE_CUDA also torch_cuda and c10_cuda. We do not use the
# packaged TorchConfig.cmake because a CUDA build's config demands a CUDA toolkit even of programs that never touch a GPU.

if(NOT LibTorch_ROOT)
  set(_prefixes ${CMAKE_PREFIX_PATH})
  find_path(LibTorch_INCLUDE_DIR ATen/Tensor.h
    PATHS ${_prefixes} PATH_SUFFIXES include torch/include libtorch/include NO_DEFAULT_PATH)
  if(LibTorch_INCLUDE_DIR)
    get_filename_component(LibTorch_ROOT ${LibTorch_INCLUDE_DIR} DIRECTORY)
  else()
    execute_process(COMMAND python3 -c "import os, torch; print(os.path.dirname(torch.__file__))"
      OUTPUT_VARIABLE LibTorch_ROOT OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  endif()
endif()
find_path(LibTorch_INCLUDE_DIR ATen/Tensor.h PATHS ${LibTorch_ROOT}/include NO_DEFAULT_PATH)
find_library(LibTorch_CPU_LIBRARY torch_cpu PATHS ${LibTorch_ROOT}/lib NO_DEFAULT_PATH)
find_library(LibTorch_C10_LIBRARY c10 PATHS ${LibTorch_ROOT}/lib NO_DEFAULT_PATH)
set(_required LibTorch_INCLUDE_DIR LibTorch_CPU_LIBRARY LibTorch_C10_LIBRARY)

if(LONGTAKE_CUDA)
  find_library(LibTorch_CUDA_LIBRARY torch_cuda PATHS ${LibTorch_ROOT}/lib NO_DEFAULT_PATH)
  find_library(LibTorch_C10_CUDA_LIBRARY c10_cuda PATHS ${LibTorch_ROOT}/lib NO_DEFAULT_PATH)
  list(APPEND _required LibTorch_CUDA_LIBRARY LibTorch_C10_CUDA_LIBRARY)
endif()

set(_version_file ${LibTorch_ROOT}/include/torch/headeronly/version.h)
if(NOT EXISTS ${_version_file})
  set(_version_file ${LibTorch_ROOT}/include/torch/csrc/api/include/torch/version.h)
endif()
if(EXISTS ${_version_file})
  file(STRINGS ${_version_file} _version_lines REGEX "#define TORCH_VERSION_(MAJOR|MINOR|PATCH) ")
  string(REGEX REPLACE "[^0-9;]+" "" _version_numbers "${_version_lines}")
  string(REPLACE ";" "." LibTorch_VERSION "${_version_numbers}")
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(LibTorch
  REQUIRED_VARS ${_required} VERSION_VAR LibTorch_VERSION
  REASON_FAILURE_MESSAGE "run scripts/setup.sh, or point CMAKE_PREFIX_PATH at a LibTorch 2.6 or newer (C++11 ABI)")
if(LibTorch_VERSION AND LibTorch_VERSION VERSION_LESS 2.6)
  message(FATAL_ERROR "LibTorch ${LibTorch_VERSION} at ${LibTorch_ROOT} is too old: 2.6 or newer is needed (scripts/setup.sh fetches one)")
endif()

if(LibTorch_FOUND AND NOT TARGET LibTorch::LibTorch)
  add_library(LibTorch::LibTorch INTERFACE IMPORTED)
  # After the system's headers, because the packages of PyTorch carry their own fmt, pybind11 and others, whose symbols they
  # do not export: found first, they would not link.
  target_compile_options(LibTorch::LibTorch INTERFACE "SHELL:-idirafter ${LibTorch_INCLUDE_DIR}"
    "SHELL:-idirafter ${LibTorch_INCLUDE_DIR}/torch/csrc/api/include")
  # libtorch_cpu finds its own dependencies (cudart, cupti in a CUDA build) by rpath; the linker need not resolve them.
  target_link_options(LibTorch::LibTorch INTERFACE -Wl,--allow-shlib-undefined -Wl,-rpath,${LibTorch_ROOT}/lib)
  target_link_libraries(LibTorch::LibTorch INTERFACE ${LibTorch_CPU_LIBRARY} ${LibTorch_C10_LIBRARY})
  if(LONGTAKE_CUDA)
    # Nothing references a symbol of torch_cuda: it registers its kernels when loaded.
    target_link_libraries(LibTorch::LibTorch INTERFACE
      -Wl,--no-as-needed ${LibTorch_CUDA_LIBRARY} -Wl,--as-needed ${LibTorch_C10_CUDA_LIBRARY})
  endif()
endif()
