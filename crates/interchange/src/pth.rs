//! Files of PyTorch's `torch.save`: [`read`] parses the containers, [`pickle`] is the stack machine
//! for the pickles in them, [`state_dict`] finds the tensors, and [`mod@write`] writes files.

pub mod pickle;
pub mod read;
pub mod state_dict;
pub mod write;

/// The name of the entry with the metadata that this crate writes, relative to the folder in the
/// archive.
pub const METADATA: &str = "extra/alexnet.json";
