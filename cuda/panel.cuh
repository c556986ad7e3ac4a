// Operands of the tensor cores: 16-bit floats in panels, which are byte for byte what shared memory is to hold, so that a
// plain bulk copy brings them there and no tensor map is needed.
//
// A panel is HEIGHT rows by 64 columns, a row 128 bytes of eight 16-byte units; unit u of row r stands at place u ^ (r % 8)
// (the 128-byte swizzle of PTX). Panels of the same rows follow one another, then those of the next rows. Columns are
// padded with zeros to 64, rows to HEIGHT.
#pragma once
#include "common.cuh"

constexpr int PANEL_K = 64;
constexpr int PANEL_ROW = 128;  // bytes
// Rows of a panel of the left and of the right operand.
constexpr int LEFT = 256;
constexpr int RIGHT = 128;

// The power of two that brings a largest magnitude to [2^14, 2^15): far from both ends of the 16-bit range.
__device__ __forceinline__ float panel_scale(float largest) {
    if (!(largest > 0.0f) || largest == INFINITE) return 1.0f;
    int exponent = (int)((__float_as_uint(largest) >> 23) & 255) - 127;
    int e = min(max(14 - exponent, -126), 126);
    return __uint_as_float((u32)(e + 127) << 23);
}
