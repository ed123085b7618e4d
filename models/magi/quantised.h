// Linear layers of the quantised MAGI-1 checkpoints: e4m3 weights with scales that were calibrated. Spec: magi1.md 2.9 and 1.7.
//
// NAME.weight [1, out, in] e4m3 and NAME.weight_scale [1] say the weight; NAME.input_scale ([in] with one value throughout, or
// [1]) and for some layers NAME.smooth_scale [1, in] say what inputs are divided by before they are rounded:
//   y = ((x / s) W8^T) * input_scale * weight_scale,   s = smooth_scale, or else input_scale
#pragma once

#include <string>

#include "models/weights/source.h"
#include "quant/linear.h"

namespace longtake::magi {

// How such layers compute.
enum class QuantisedAs {
  working_dtype,  // multiplied out at load: the same function without rounding inputs, on any device
  fp8,            // in e4m3 (quant/fp8.h). Inputs get a scale a row from their own values, not the calibrated one, which is at least as fine
};

bool is_quantised(const WeightSource& source, const std::string& name);

// Error (bad_file) naming the tensor: a scale or weight that is missing, misshapen, not finite or not positive. A layer whose
// sizes do not fit fp8 products (fits_fp8) comes in the source's dtype whatever was asked for.
Linear take_quantised(WeightSource& source, const std::string& name, int64_t out, int64_t in, QuantisedAs as);

}  // namespace longtake::magi
