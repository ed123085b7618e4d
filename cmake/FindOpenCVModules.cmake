# OpenCV's core and imgproc as OpenCVModules::OpenCVModules. Debian puts OpenCVConfig.cmake into libopencv-dev, which pulls in every
# module and half a desktop; the two modules' own -dev packages are enough for us. Others must be added with care: `video` and
# everything else that loads opencv_dnn brings a protobuf that crashes next to the one inside SentencePiece.

find_path(OpenCVModules_INCLUDE_DIR opencv2/core.hpp PATH_SUFFIXES opencv4)
set(_libraries)
foreach(module core imgproc)
  find_library(OpenCVModules_${module}_LIBRARY opencv_${module})
  list(APPEND _libraries OpenCVModules_${module}_LIBRARY)
endforeach()
if(OpenCVModules_INCLUDE_DIR)
  file(STRINGS ${OpenCVModules_INCLUDE_DIR}/opencv2/core/version.hpp _lines
    REGEX "#define CV_VERSION_(MAJOR|MINOR|REVISION) ")
  string(REGEX REPLACE "[^0-9;]+" "" _numbers "${_lines}")
  string(REPLACE ";" "." OpenCVModules_VERSION "${_numbers}")
endif()
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(OpenCVModules
  REQUIRED_VARS OpenCVModules_INCLUDE_DIR ${_libraries} VERSION_VAR OpenCVModules_VERSION
  REASON_FAILURE_MESSAGE "install libopencv-core-dev and libopencv-imgproc-dev, or configure with -DLONGTAKE_VIDEO_IO=OFF")
if(OpenCVModules_FOUND AND NOT TARGET OpenCVModules::OpenCVModules)
  add_library(OpenCVModules::OpenCVModules INTERFACE IMPORTED)
  target_include_directories(OpenCVModules::OpenCVModules SYSTEM INTERFACE ${OpenCVModules_INCLUDE_DIR})
  foreach(library ${_libraries})
    target_link_libraries(OpenCVModules::OpenCVModules INTERFACE ${${library}})
  endforeach()
endif()
