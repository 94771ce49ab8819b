//! Converts YCbCr outside of JPEG data to RGB with tables. Uncompressed samples are rounded as by
//! Pillow, compressed samples as by libtiff, which Pillow uses for them.

use super::{directory::Directory, tag};

pub struct YCbCr {
    luma: [i32; 256],
    red_of_cr: [i32; 256],
    /// The sum of the two values for green is divided by 2^`shift`.
    green_of_cb: [i32; 256],
    green_of_cr: [i32; 256],
    shift: u32,
    blue_of_cb: [i32; 256],
}

impl YCbCr {
    pub fn read(directory: &Directory, compression: u64) -> Result<Self, String> {
        if compression == 1 {
            return Ok(Self::of_pillow());
        }
        let coefficients =
            directory.floats(tag::YCBCR_COEFFICIENTS).unwrap_or([0.299, 0.587, 0.114]);
        let reference = directory.floats(tag::REFERENCE_BLACK_WHITE);
        Ok(Self::of_libtiff(
            coefficients,
            reference.unwrap_or([0.0, 255.0, 128.0, 255.0, 128.0, 255.0]),
        ))
    }

    /// Fixed-point numbers with 6 fractional bits.
    fn of_pillow() -> Self {
        let table = |factor: f64| {
            std::array::from_fn(|code| (factor * 64.0 * (code as f64 - 128.0) + 0.5) as i32)
        };
        Self {
            luma: std::array::from_fn(|code| code as i32),
            red_of_cr: table(1.402).map(|value| value >> 6),
            green_of_cb: table(-0.34414),
            green_of_cr: table(-0.71414),
            shift: 6,
            blue_of_cb: table(1.772).map(|value| value >> 6),
        }
    }

    /// Fixed-point numbers with 16 fractional bits. `reference` holds the codes of black and white
    /// for each channel.
    fn of_libtiff([red, green, blue]: [f32; 3], reference: [f32; 6]) -> Self {
        const HALF: i64 = 1 << 15;
        let fixed = |factor: f32| (f64::from(factor.clamp(0.0, 2.0)) * 65_536.0 + 0.5) as i64;
        let value = |code: f32, black: f32, white: f32, largest: f32| {
            let range = if white == black { 1.0 } else { white - black };
            let value = (code - black.trunc()) * largest / range;
            value.clamp(-4096.0, 4096.0) as i64
        };
        let luma = |code: usize| value(code as f32, reference[0], reference[1], 255.0) as i32;
        let chroma = |code: usize, at: usize| {
            value(code as f32 - 128.0, reference[at] - 128.0, reference[at + 1] - 128.0, 127.0)
        };
        let (to_red, to_blue) = (2.0 - 2.0 * red, 2.0 - 2.0 * blue);
        let [red_cr, green_cr] = [to_red, red * to_red / green].map(fixed);
        let [blue_cb, green_cb] = [to_blue, blue * to_blue / green].map(fixed);
        Self {
            luma: std::array::from_fn(luma),
            red_of_cr: std::array::from_fn(|code| ((red_cr * chroma(code, 4) + HALF) >> 16) as i32),
            green_of_cb: std::array::from_fn(|code| (-green_cb * chroma(code, 2) + HALF) as i32),
            green_of_cr: std::array::from_fn(|code| (-green_cr * chroma(code, 4)) as i32),
            shift: 16,
            blue_of_cb: std::array::from_fn(|code| {
                ((blue_cb * chroma(code, 2) + HALF) >> 16) as i32
            }),
        }
    }

    pub fn rgb(&self, codes: [u8; 3]) -> [u8; 3] {
        let [luma, cb, cr] = codes.map(usize::from);
        let luma = self.luma[luma];
        let green = (self.green_of_cb[cb] + self.green_of_cr[cr]) >> self.shift;
        [self.red_of_cr[cr], green, self.blue_of_cb[cb]]
            .map(|chroma| (luma + chroma).clamp(0, 255) as u8)
    }
}
