// LPIPS, or any learned distance between pictures, from a TorchScript file that the user brings.
//
// The module is called as module(reference, test) with two float32 tensors [n, 3, H, W] in [-1, 1] and returns a
// tensor: [n] or [n, ...] (the rest is averaged: a map of distances), or a single number for n = 1. scripts of the
// lpips package export as torch.jit.trace(lpips.LPIPS(net="alex"), (x, y)).save(FILE). No weights are shipped, and none
// are searched for.
//
// A TorchScript file is a program: load only files that you trust.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace longtake {

class Lpips {
 public:
  // Errors: bad_file where the file is missing or no TorchScript module.
  Lpips(const std::filesystem::path& path, const at::Device& device);
  ~Lpips();
  Lpips(Lpips&&) noexcept;

  // By frame. Frames: uint8 [T, H, W, 3], same shape. Errors: bad_file where the module fails or returns something
  // else.
  std::vector<double> distance(const at::Tensor& reference, const at::Tensor& test) const;

  const std::string& name() const { return name_; }  // of the file, without folders

 private:
  struct Module;
  std::unique_ptr<Module> module_;
  at::Device device_;
  std::string name_;
};

}  // namespace longtake
