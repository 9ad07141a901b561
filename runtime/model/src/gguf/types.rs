//! The types of tensors, by ggml's numbers for them.

use lime_plan::Format;

/// A type of ggml's: its name, the elements and bytes of a unit, and the format where it is one that is run.
#[derive(Clone, Copy, Debug)]
pub(super) struct TensorType {
    pub(super) name: &'static str,
    pub(super) elements: u64,
    pub(super) bytes: u64,
    pub(super) format: Option<Format>,
}

/// The type of number `code`, if it is known. Those without a format can be described and not run.
pub(super) fn tensor_type(code: u32) -> Option<TensorType> {
    let (name, elements, bytes, format) = match code {
        0 => ("F32", 1, 4, Some(Format::F32)),
        1 => ("F16", 1, 2, Some(Format::F16)),
        2 => ("Q4_0", 32, 18, Some(Format::Q4_0)),
        3 => ("Q4_1", 32, 20, Some(Format::Q4_1)),
        6 => ("Q5_0", 32, 22, Some(Format::Q5_0)),
        7 => ("Q5_1", 32, 24, Some(Format::Q5_1)),
        8 => ("Q8_0", 32, 34, Some(Format::Q8_0)),
        9 => ("Q8_1", 32, 36, None),
        10 => ("Q2_K", 256, 84, Some(Format::Q2K)),
        11 => ("Q3_K", 256, 110, Some(Format::Q3K)),
        12 => ("Q4_K", 256, 144, Some(Format::Q4K)),
        13 => ("Q5_K", 256, 176, Some(Format::Q5K)),
        14 => ("Q6_K", 256, 210, Some(Format::Q6K)),
        15 => ("Q8_K", 256, 292, None),
        16 => ("IQ2_XXS", 256, 66, None),
        17 => ("IQ2_XS", 256, 74, None),
        18 => ("IQ3_XXS", 256, 98, None),
        19 => ("IQ1_S", 256, 50, None),
        20 => ("IQ4_NL", 32, 18, Some(Format::Iq4Nl)),
        21 => ("IQ3_S", 256, 110, None),
        22 => ("IQ2_S", 256, 82, None),
        23 => ("IQ4_XS", 256, 136, Some(Format::Iq4Xs)),
        24 => ("I8", 1, 1, None),
        25 => ("I16", 1, 2, None),
        26 => ("I32", 1, 4, None),
        27 => ("I64", 1, 8, None),
        28 => ("F64", 1, 8, None),
        29 => ("IQ1_M", 256, 56, None),
        30 => ("BF16", 1, 2, Some(Format::Bf16)),
        34 => ("TQ1_0", 256, 54, None),
        35 => ("TQ2_0", 256, 66, None),
        39 => ("MXFP4", 32, 17, Some(Format::Mxfp4)),
        40 => ("NVFP4", 64, 36, None),
        41 => ("Q1_0", 128, 18, None),
        42 => ("Q2_0", 64, 18, None),
        _ => return None,
    };
    Some(TensorType { name, elements, bytes, format })
}
