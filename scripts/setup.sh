#!/usr/bin/env bash
# Installs what building longtake needs and is missing: distribution packages (as root, through apt), LibTorch and, where there is a
# CUDA compiler, the headers of cudnn-frontend (both through pip, into a cache outside the tree). Idempotent; says what it does; needs no root where everything is installed.
#
#   scripts/setup.sh            install, then print the LibTorch folder as its last line
#
# LONGTAKE_CACHE moves the cache (default: $XDG_CACHE_HOME/longtake or ~/.cache/longtake).
set -euo pipefail

torch_version=2.11.0
cudnn_frontend_version=1.32.0
cache=${LONGTAKE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/longtake}
packages=(g++ cmake ninja-build ccache mold pkg-config python3 python3-pip zlib1g-dev
  libavformat-dev libavcodec-dev libavutil-dev libswscale-dev
  libopencv-core-dev libopencv-imgproc-dev
  libeigen3-dev libyaml-cpp-dev libcli11-dev libspdlog-dev libfmt-dev nlohmann-json3-dev
  libsentencepiece-dev catch2)

say() { printf 'setup: %s\n' "$*" >&2; }
die() { printf 'setup: %s\n' "$*" >&2; exit 3; }

install_packages() {
  command -v dpkg-query >/dev/null || { say "not a Debian or Ubuntu system: expecting the libraries of README.md to be installed"; return; }
  local missing=() package
  for package in "${packages[@]}"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  # Tools may come from elsewhere than a package.
  local -A tool=([g++]=g++ [cmake]=cmake [ninja-build]=ninja [ccache]=ccache [mold]=mold [pkg-config]=pkg-config [python3]=python3)
  local needed=()
  for package in "${missing[@]}"; do
    if [ -n "${tool[$package]:-}" ] && command -v "${tool[$package]}" >/dev/null; then continue; fi
    if [ "$package" = python3-pip ] && python3 -m pip --version >/dev/null 2>&1; then continue; fi
    needed+=("$package")
  done
  [ ${#needed[@]} -eq 0 ] && { say "all distribution packages are installed"; return; }
  local root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || die "these packages are missing and this user cannot install them: ${needed[*]}"
    root=(sudo)
  fi
  say "installing ${needed[*]}"
  "${root[@]}" apt-get update -qq >&2
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${needed[@]}" >&2
}

# A LibTorch of 2.6 or newer that is there already: CMAKE_PREFIX_PATH, the python3 on the path, or our cache.
find_libtorch() {
  local prefix
  IFS=: read -ra prefixes <<<"${CMAKE_PREFIX_PATH:-}"
  for prefix in "${prefixes[@]:-}"; do
    for prefix in "$prefix" "$prefix/torch" "$prefix/libtorch"; do
      [ -n "$prefix" ] && [ -f "$prefix/include/ATen/Tensor.h" ] && { echo "$prefix"; return; }
    done
  done
  python3 - 2>/dev/null <<'PY' && return
import os, sys
import torch
major, minor = (int(x) for x in torch.__version__.split(".")[:2])
if (major, minor) < (2, 6) or not torch._C._GLIBCXX_USE_CXX11_ABI:
    sys.exit(1)
print(os.path.dirname(torch.__file__))
PY
  [ -f "$cache/torch-$torch_version/torch/include/ATen/Tensor.h" ] && { echo "$cache/torch-$torch_version/torch"; return; }
  return 1
}

install_libtorch() {
  local target=$cache/torch-$torch_version partial
  mkdir -p "$cache"
  partial=$(mktemp -d "$target.XXXXXX")
  # Expanded now: the variable is gone when the script ends.
  trap "rm -rf '$partial'" EXIT
  if command -v nvidia-smi >/dev/null; then
    say "fetching LibTorch $torch_version (CUDA 13.0) with its CUDA libraries into $target, about 2.5 GB"
    python3 -m pip install -q --no-cache-dir --target "$partial" "torch==$torch_version" >&2
  else
    # On a machine without a GPU, torch_cpu needs no more of CUDA than these two libraries, which it loads.
    say "fetching LibTorch $torch_version into $target, about 600 MB (no NVIDIA GPU: without most CUDA libraries)"
    python3 -m pip install -q --no-cache-dir --no-deps --target "$partial" "torch==$torch_version" \
      nvidia-cuda-runtime==13.0.96 nvidia-cuda-cupti==13.0.85 >&2
  fi
  # Another run may have finished first.
  [ -d "$target" ] || mv "$partial" "$target"
}

# Headers alone, 3 MB: attention in 8-bit floats on GPUs other than Hopper (cmake/FindCudnnFrontend.cmake looks here).
install_cudnn_frontend() {
  local target=$cache/cudnn-frontend-$cudnn_frontend_version partial
  [ -f "$target/include/cudnn_frontend.h" ] && return
  mkdir -p "$cache"
  partial=$(mktemp -d "$target.XXXXXX")
  say "fetching the headers of cudnn-frontend $cudnn_frontend_version into $target"
  if python3 -m pip install -q --no-cache-dir --no-deps --target "$partial" "nvidia-cudnn-frontend==$cudnn_frontend_version" >&2; then
    mkdir "$partial/headers" && mv "$partial/include" "$partial/headers/include"
    [ -d "$target" ] || mv "$partial/headers" "$target"
  else
    say "cudnn-frontend could not be fetched: a CUDA build will keep attention in bf16 with --precision fp8 on GPUs newer than Hopper"
  fi
  rm -rf "$partial"
}

install_packages
if command -v nvcc >/dev/null || [ -x /usr/local/cuda/bin/nvcc ]; then install_cudnn_frontend; fi
libtorch=$(find_libtorch) || { install_libtorch; libtorch=$(find_libtorch) || die "LibTorch could not be installed"; }
say "LibTorch: $libtorch"
echo "$libtorch"
