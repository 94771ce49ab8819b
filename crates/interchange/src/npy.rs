//! Writes arrays in NumPy's NPY format, version 1.0
//! (<https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>).

/// Header and numbers start at a multiple of this number of bytes.
const ALIGNMENT: usize = 64;

/// Returns the content of an NPY file with the numbers of a row-major array of this shape: f32,
/// little-endian.
pub fn to_bytes(shape: &[usize], values: &[f32]) -> Vec<u8> {
    let extents: Vec<String> = shape.iter().map(usize::to_string).collect();
    // In Python, a tuple of one number ends with a comma.
    let comma = if shape.len() == 1 { "," } else { "" };
    let shape = format!("({}{comma})", extents.join(", "));
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}");
    const PREFIX: usize = 10;
    let unpadded = PREFIX + header.len() + 1;
    header.push_str(&" ".repeat(unpadded.next_multiple_of(ALIGNMENT) - unpadded));
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.bytes());
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_that_of_numpy() {
        // numpy.save(file, numpy.array([[1, -2, 0.5]], '<f4')), NumPy 2.4.6
        let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3), }";
        let mut expected = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
        expected.extend(format!("{header:117}\n").bytes());
        expected.extend([1.0f32, -2.0, 0.5].iter().flat_map(|value| value.to_le_bytes()));
        let values = [1.0, -2.0, 0.5];
        let found = to_bytes(&[1, 3], &values);
        assert_eq!(found.len() % ALIGNMENT, 12);
        assert_eq!(String::from_utf8_lossy(&found), String::from_utf8_lossy(&expected));
        assert!(String::from_utf8_lossy(&to_bytes(&[3], &values)).contains("'shape': (3,), }"));
    }
}
