//! PyTorch's `torch.save`: [`read`] takes its containers apart, [`pickle`] is the stack machine for what is in them, [`state_dict`]
//! finds the tensors, [`write`] makes such a file.

pub mod pickle;
pub mod read;
pub mod state_dict;
pub mod write;

/// Where this crate keeps a file's metadata, in the archive's folder.
pub const METADATA: &str = "extra/alexnet.json";
