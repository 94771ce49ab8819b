//! A parser for the subset of Python's pickle that a dictionary of tensors needs (`pickletools`,
//! PEP 307 and 3154).
//!
//! A pickle is a program for a stack machine that may call anything in Python. This machine
//! supports only the operations that build plain values, and a short list of names, which it
//! represents by inert values. Any other operation or name is an error with its position. Nothing
//! is executed.
//!
//! Compound values are stored in one list per kind, and refer to each other by their indices.
//! Values that contain themselves and deeply nested values are therefore not traversed or dropped
//! recursively.

use std::collections::BTreeMap;

use alexnet_core::text::shown;

use crate::tensor::Dtype;

/// The limits of a pickle: its size, the number of its operations, and the number of values on its
/// stack. A state dictionary has about fifty bytes and thirty operations per tensor.
pub const MAX_BYTES: usize = 16 << 20;
const MAX_OPERATIONS: usize = 250_000;
const MAX_STACK: usize = 1 << 16;

/// The limits of the length of a name and of the number of dimensions (that of PyTorch). Names and
/// shapes are copied each time they are used.
const MAX_NAME: usize = 1 << 10;
const MAX_DIMENSIONS: usize = 64;

/// A value. Compound values are indices in the lists of [`Pickle`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(usize),
    Tuple(usize),
    List(usize),
    Dict(usize),
    Storage(usize),
    Tensor(usize),
    Global(Global),
    /// A value other than a tensor, whose content is not needed.
    Opaque,
}

/// The names that are allowed in a pickle.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Global {
    OrderedDict,
    Size,
    RebuildTensor,
    RebuildTensorV2,
    RebuildParameter,
    /// For a tensor with attributes.
    RebuildFromType,
    StorageType(Dtype),
    /// Names that checkpoints use for other values than tensors; the values are ignored.
    Opaque,
}

impl Global {
    fn find(module: &str, name: &str) -> Option<Self> {
        Some(match (module, name) {
            ("collections", "OrderedDict") => Self::OrderedDict,
            ("torch", "Size") => Self::Size,
            ("torch._utils", "_rebuild_tensor") => Self::RebuildTensor,
            ("torch._utils", "_rebuild_tensor_v2") => Self::RebuildTensorV2,
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
                Self::RebuildParameter
            }
            ("torch._tensor", "_rebuild_from_type_v2") => Self::RebuildFromType,
            ("collections", "Counter")
            | ("builtins" | "__builtin__", "set" | "complex" | "bytearray")
            | ("_codecs", "encode")
            | ("torch.serialization", "_get_layout")
            | ("torch.nn.parameter", "Parameter")
            | (
                "torch",
                "Tensor" | "device" | "bool" | "uint8" | "int8" | "int16" | "int32" | "int64",
            )
            | (
                "torch",
                "float16" | "bfloat16" | "float32" | "float64" | "complex64" | "complex128",
            ) => Self::Opaque,
            ("torch", storage) => Self::StorageType(match storage {
                "HalfStorage" => Dtype::F16,
                "BFloat16Storage" => Dtype::BF16,
                "FloatStorage" => Dtype::F32,
                "DoubleStorage" => Dtype::F64,
                "LongStorage" => Dtype::Other("int64", 8),
                "IntStorage" => Dtype::Other("int32", 4),
                "ShortStorage" => Dtype::Other("int16", 2),
                "CharStorage" => Dtype::Other("int8", 1),
                "ByteStorage" => Dtype::Other("uint8", 1),
                "BoolStorage" => Dtype::Other("bool", 1),
                "ComplexFloatStorage" => Dtype::Other("complex64", 8),
                "ComplexDoubleStorage" => Dtype::Other("complex128", 16),
                _ => return None,
            }),
            _ => return None,
        })
    }
}

/// A block of numbers that tensors are views of.
#[derive(Clone, Debug, PartialEq)]
pub struct Storage {
    pub key: String,
    pub dtype: Dtype,
    pub elements: u64,
}

/// A tensor, which is a view into a storage. Offset and strides are in elements.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    pub storage: usize,
    pub offset: u64,
    pub shape: Vec<u64>,
    pub strides: Vec<u64>,
}

/// The values that a pickle built.
#[derive(Debug, Default)]
pub struct Pickle {
    pub texts: Vec<String>,
    pub tuples: Vec<Vec<Value>>,
    pub lists: Vec<Vec<Value>>,
    pub dicts: Vec<Vec<(Value, Value)>>,
    pub storages: Vec<Storage>,
    pub tensors: Vec<Tensor>,
}

impl Pickle {
    /// Runs the program at the start of `bytes`. Returns the values that it builds, its result and
    /// its length. `start` is added to the positions in errors.
    ///
    /// # Errors
    /// A message with the operation and its position.
    pub fn read(bytes: &[u8], start: usize) -> Result<(Self, Value, usize), String> {
        let mut machine = Machine { bytes, ..Machine::default() };
        for _ in 0..MAX_OPERATIONS {
            let at = start + machine.at;
            let operation =
                machine.byte().map_err(|_| format!("it ends at byte {at}, before its STOP"))?;
            let refuse = |reason| format!("operation {} at byte {at}: {reason}", name(operation));
            if operation == STOP {
                let result = machine.pop().map_err(refuse)?;
                return Ok((machine.built, result, machine.at));
            }
            let value = machine.execute(operation).map_err(refuse)?;
            machine.stack.extend(value);
            if machine.stack.len() + machine.marks.len() > MAX_STACK {
                return Err(refuse(format!(
                    "it is nested too deep: more than {MAX_STACK} values are on the stack"
                )));
            }
        }
        Err(format!("it has more than {MAX_OPERATIONS} operations"))
    }

    /// Returns `value` if it is a string.
    pub fn text(&self, value: Value) -> Option<&str> {
        if let Value::Text(index) = value {
            self.texts.get(index).map(String::as_str)
        } else {
            None
        }
    }

    /// Returns `value` if it is a string that can be shown in a message.
    ///
    /// # Errors
    /// When it is not a string, is too long, or contains control characters.
    pub fn name(&self, value: Value) -> Result<&str, String> {
        match self.text(value) {
            None => Err("a name is not a string".into()),
            Some(text) if text.len() > MAX_NAME => {
                Err(format!("a name is longer than {MAX_NAME} bytes"))
            }
            Some(text) if text.contains(char::is_control) => {
                Err(format!("{text:?} is not a valid name"))
            }
            Some(text) => Ok(text),
        }
    }

    fn tuple(&self, value: Value) -> Option<&[Value]> {
        if let Value::Tuple(index) = value {
            self.tuples.get(index).map(Vec::as_slice)
        } else {
            None
        }
    }
}

/// The operations of pickle, with their names in Python's `pickletools`.
mod operation {
    pub const MARK: u8 = b'(';
    pub const STOP: u8 = b'.';
    pub const POP: u8 = b'0';
    pub const BINFLOAT: u8 = b'G';
    pub const BININT: u8 = b'J';
    pub const BININT1: u8 = b'K';
    pub const BININT2: u8 = b'M';
    pub const NONE: u8 = b'N';
    pub const BINPERSID: u8 = b'Q';
    pub const REDUCE: u8 = b'R';
    pub const BINSTRING: u8 = b'T';
    pub const SHORT_BINSTRING: u8 = b'U';
    pub const BINUNICODE: u8 = b'X';
    pub const EMPTY_LIST: u8 = b']';
    pub const APPEND: u8 = b'a';
    pub const BUILD: u8 = b'b';
    pub const GLOBAL: u8 = b'c';
    pub const APPENDS: u8 = b'e';
    pub const BINGET: u8 = b'h';
    pub const LONG_BINGET: u8 = b'j';
    pub const BINPUT: u8 = b'q';
    pub const LONG_BINPUT: u8 = b'r';
    pub const SETITEM: u8 = b's';
    pub const TUPLE: u8 = b't';
    pub const SETITEMS: u8 = b'u';
    pub const EMPTY_DICT: u8 = b'}';
    pub const EMPTY_TUPLE: u8 = b')';
    pub const PROTO: u8 = 0x80;
    pub const TUPLE1: u8 = 0x85;
    pub const TUPLE2: u8 = 0x86;
    pub const TUPLE3: u8 = 0x87;
    pub const NEWTRUE: u8 = 0x88;
    pub const NEWFALSE: u8 = 0x89;
    pub const LONG1: u8 = 0x8a;
    pub const SHORT_BINUNICODE: u8 = 0x8c;
    pub const BINUNICODE8: u8 = 0x8d;
    pub const EMPTY_SET: u8 = 0x8f;
    pub const ADDITEMS: u8 = 0x90;
    pub const STACK_GLOBAL: u8 = 0x93;
    pub const MEMOIZE: u8 = 0x94;
    pub const FRAME: u8 = 0x95;
}
use operation::*;

/// Returns the name of an operation for messages: the name of operations that malicious files are
/// likely to contain, the byte of others.
fn name(operation: u8) -> String {
    match operation {
        b'i' => "INST".into(),
        b'o' => "OBJ".into(),
        b'P' => "PERSID".into(),
        b'I' => "INT".into(),
        b'V' => "UNICODE".into(),
        0x81 => "NEWOBJ".into(),
        0x82..=0x84 => "EXT".into(),
        0x92 => "NEWOBJ_EX".into(),
        0x97 | 0x98 => "BUFFER".into(),
        BINPERSID => "BINPERSID".into(),
        REDUCE => "REDUCE".into(),
        BUILD => "BUILD".into(),
        GLOBAL => "GLOBAL".into(),
        STACK_GLOBAL => "STACK_GLOBAL".into(),
        other if other.is_ascii_graphic() => format!("`{}`", char::from(other)),
        other => format!("{other:#04x}"),
    }
}

#[derive(Default)]
struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    built: Pickle,
    stack: Vec<Value>,
    /// The lengths of the stack at the marks.
    marks: Vec<usize>,
    memo: BTreeMap<u32, Value>,
    /// The indices of the storages by their keys.
    storages: BTreeMap<String, usize>,
    /// The number of entries of lists that were copied to dictionaries.
    copied: usize,
}

type Outcome<T = ()> = Result<T, String>;

/// Stores a compound value and returns its index.
fn store<T>(values: &mut Vec<T>, value: T) -> usize {
    values.push(value);
    values.len() - 1
}

impl<'a> Machine<'a> {
    /// Executes one operation. Returns the value that it pushes on the stack, if any.
    fn execute(&mut self, operation: u8) -> Outcome<Option<Value>> {
        let value = match operation {
            PROTO => {
                self.byte()?;
                return Ok(None);
            }
            FRAME => {
                self.take(8)?;
                return Ok(None);
            }
            MARK => {
                self.marks.push(self.stack.len());
                return Ok(None);
            }
            POP => {
                self.pop()?;
                return Ok(None);
            }
            NONE => Value::None,
            NEWTRUE => Value::Bool(true),
            NEWFALSE => Value::Bool(false),
            BININT => Value::Int(i32::from_le_bytes(self.array()?).into()),
            BININT1 => Value::Int(self.byte()?.into()),
            BININT2 => Value::Int(u16::from_le_bytes(self.array()?).into()),
            LONG1 => {
                let length = usize::from(self.byte()?);
                self.long(length)?
            }
            BINFLOAT => Value::Float(f64::from_be_bytes(self.array()?)),
            SHORT_BINSTRING | SHORT_BINUNICODE => {
                let length = usize::from(self.byte()?);
                self.text(length)?
            }
            BINSTRING | BINUNICODE => {
                let length = u32::from_le_bytes(self.array()?);
                self.text(length as usize)?
            }
            BINUNICODE8 => {
                let length = u64::from_le_bytes(self.array()?);
                self.text(usize::try_from(length).unwrap_or(usize::MAX))?
            }
            EMPTY_LIST => Value::List(store(&mut self.built.lists, vec![])),
            EMPTY_DICT => Value::Dict(store(&mut self.built.dicts, vec![])),
            EMPTY_TUPLE => self.tuple(vec![]),
            EMPTY_SET => Value::Opaque,
            ADDITEMS => {
                self.since_mark()?;
                match self.stack.last() {
                    Some(Value::Opaque) => return Ok(None),
                    _ => return Err("there is no set to add items to".into()),
                }
            }
            TUPLE1 | TUPLE2 | TUPLE3 => {
                let mut items =
                    (TUPLE1..=operation).map(|_| self.pop()).collect::<Outcome<Vec<_>>>()?;
                items.reverse();
                self.tuple(items)
            }
            TUPLE => {
                let items = self.since_mark()?;
                self.tuple(items)
            }
            APPEND => {
                let item = self.pop()?;
                self.list()?.push(item);
                return Ok(None);
            }
            APPENDS => {
                let items = self.since_mark()?;
                self.list()?.extend(items);
                return Ok(None);
            }
            SETITEM => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.dict()?.push((key, value));
                return Ok(None);
            }
            SETITEMS => {
                let items = self.since_mark()?;
                let (pairs, rest) = items.as_chunks();
                if !rest.is_empty() {
                    return Err("a key has no value".into());
                }
                self.dict()?.extend(pairs.iter().map(|&[key, value]| (key, value)));
                return Ok(None);
            }
            BUILD => {
                // The attributes of a dictionary (`_metadata`) are not needed for its tensors.
                self.pop()?;
                self.dict()?;
                return Ok(None);
            }
            BINPUT => {
                let index = self.byte()?.into();
                return self.memo_put(index);
            }
            LONG_BINPUT => {
                let index = u32::from_le_bytes(self.array()?);
                return self.memo_put(index);
            }
            MEMOIZE => return self.memo_put(self.memo.len() as u32),
            BINGET => {
                let index = self.byte()?.into();
                self.memo_get(index)?
            }
            LONG_BINGET => {
                let index = u32::from_le_bytes(self.array()?);
                self.memo_get(index)?
            }
            GLOBAL => {
                let (module, name) = (self.line()?, self.line()?);
                global(module, name)?
            }
            STACK_GLOBAL => {
                let (name, module) = (self.pop()?, self.pop()?);
                match (self.built.text(module), self.built.text(name)) {
                    (Some(module), Some(name)) => global(module, name)?,
                    _ => return Err("a name is not a string".into()),
                }
            }
            BINPERSID => self.storage()?,
            REDUCE => self.reduce()?,
            _ => {
                return Err(
                    "state dictionaries do not need this operation, and it is not executed".into(),
                );
            }
        };
        Ok(Some(value))
    }

    fn take(&mut self, length: usize) -> Outcome<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        let taken = rest.get(..length).ok_or("the pickle ends inside it")?;
        self.at += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Outcome<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn byte(&mut self) -> Outcome<u8> {
        self.array().map(|[byte]| byte)
    }

    /// Reads up to the next line feed.
    fn line(&mut self) -> Outcome<&'a str> {
        let rest = &self.bytes[self.at..];
        let length =
            rest.iter().position(|byte| *byte == b'\n').ok_or("the pickle ends inside it")?;
        let line = self.take(length + 1)?;
        std::str::from_utf8(&line[..length]).map_err(|_| "a name is not UTF-8".into())
    }

    fn text(&mut self, length: usize) -> Outcome<Value> {
        let text =
            std::str::from_utf8(self.take(length)?).map_err(|_| "its string is not UTF-8")?;
        Ok(Value::Text(store(&mut self.built.texts, text.to_owned())))
    }

    /// Reads an integer in little-endian two's complement.
    fn long(&mut self, length: usize) -> Outcome<Value> {
        let bytes = self.take(length)?;
        let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
        let mut all = [if negative { 0xff } else { 0 }; 16];
        all.get_mut(..length).ok_or("the number is too large")?.copy_from_slice(bytes);
        Ok(Value::Int(i128::from_le_bytes(all)))
    }

    fn tuple(&mut self, items: Vec<Value>) -> Value {
        Value::Tuple(store(&mut self.built.tuples, items))
    }

    fn pop(&mut self) -> Outcome<Value> {
        // The values before a mark must not be popped.
        if self.stack.len() <= self.marks.last().copied().unwrap_or(0) {
            return Err(UNDERFLOW.into());
        }
        self.stack.pop().ok_or_else(|| UNDERFLOW.into())
    }

    fn since_mark(&mut self) -> Outcome<Vec<Value>> {
        let mark = self.marks.pop().ok_or("there is no mark")?;
        Ok(self.stack.split_off(mark))
    }

    /// Returns the list on top of the stack.
    fn list(&mut self) -> Outcome<&mut Vec<Value>> {
        match self.stack.last() {
            Some(Value::List(index)) => Ok(&mut self.built.lists[*index]),
            _ => Err("there is no list to append to".into()),
        }
    }

    /// Returns the dictionary on top of the stack.
    fn dict(&mut self) -> Outcome<&mut Vec<(Value, Value)>> {
        match self.stack.last() {
            Some(Value::Dict(index)) => Ok(&mut self.built.dicts[*index]),
            _ => Err("there is no dictionary to add items to".into()),
        }
    }

    fn memo_put(&mut self, index: u32) -> Outcome<Option<Value>> {
        let value = *self.stack.last().ok_or(UNDERFLOW)?;
        self.memo.insert(index, value);
        Ok(None)
    }

    fn memo_get(&self, index: u32) -> Outcome<Value> {
        self.memo.get(&index).copied().ok_or_else(|| format!("the memo has no entry {index}"))
    }

    /// Reads a storage, `('storage', type, key, location, elements)`.
    fn storage(&mut self) -> Outcome<Value> {
        let id = self.pop()?;
        let (kind, storage) = match self.built.tuple(id) {
            Some(
                &[
                    kind,
                    Value::Global(Global::StorageType(dtype)),
                    key,
                    _location,
                    Value::Int(elements),
                    ref view @ ..,
                ],
            ) if matches!(view, [] | [Value::None]) => {
                let key = self.built.name(key)?.to_owned();
                let elements = u64::try_from(elements)
                    .map_err(|_| format!("a storage of {elements} elements is not valid"))?;
                (kind, Storage { key, dtype, elements })
            }
            _ => return Err("it does not describe a storage as PyTorch does".into()),
        };
        if self.built.text(kind) != Some("storage") {
            return Err("it does not refer to a storage".into());
        }
        match self.storages.get(&storage.key) {
            Some(&index) if self.built.storages[index] == storage => Ok(Value::Storage(index)),
            Some(_) => Err(format!("the storage `{}` is described in two ways", storage.key)),
            None => {
                let key = storage.key.clone();
                let index = store(&mut self.built.storages, storage);
                self.storages.insert(key, index);
                Ok(Value::Storage(index))
            }
        }
    }

    /// Calls one of the known names.
    fn reduce(&mut self) -> Outcome<Value> {
        let (mut arguments, mut function) = (self.pop()?, self.pop()?);
        if function == Value::Global(Global::RebuildFromType)
            && let Some(&[inner, _type, inners, _attributes]) = self.built.tuple(arguments)
        {
            (function, arguments) = (inner, inners);
        }
        let arguments = self.built.tuple(arguments).ok_or("its arguments are not a tuple")?;
        let Value::Global(function) = function else {
            return Err("it calls a value that is not a function".into());
        };
        match (function, arguments) {
            (Global::OrderedDict, []) => Ok(Value::Dict(store(&mut self.built.dicts, vec![]))),
            (Global::OrderedDict, &[Value::List(pairs)]) => self.ordered_dict(pairs),
            (Global::Opaque, _) => Ok(Value::Opaque),
            (Global::Size, &[sizes @ Value::Tuple(_)]) => Ok(sizes),
            (Global::RebuildParameter, &[tensor @ Value::Tensor(_), ..]) => Ok(tensor),
            (
                Global::RebuildTensor | Global::RebuildTensorV2,
                &[Value::Storage(storage), offset, shape, strides, ..],
            ) => {
                let tensor = Tensor {
                    storage,
                    offset: number(offset)?,
                    shape: self.numbers(shape)?,
                    strides: self.numbers(strides)?,
                };
                if tensor.shape.len() != tensor.strides.len() {
                    return Err("a tensor does not have as many strides as dimensions".into());
                }
                Ok(Value::Tensor(store(&mut self.built.tensors, tensor)))
            }
            _ => Err("its arguments are not those that PyTorch writes".into()),
        }
    }

    /// Builds an ordered_dict dictionary as Python 2 wrote it: from a list of pairs, each a list of
    /// two values.
    fn ordered_dict(&mut self, pairs: usize) -> Outcome<Value> {
        let Pickle { lists, tuples, dicts, .. } = &mut self.built;
        // A list can be copied many times with few operations, so the entries are counted here.
        self.copied += lists[pairs].len();
        if self.copied > MAX_OPERATIONS {
            return Err(format!("its dictionaries have more than {MAX_OPERATIONS} entries"));
        }
        let pair = |item: &Value| match *item {
            Value::List(index) => lists[index].as_slice(),
            Value::Tuple(index) => tuples[index].as_slice(),
            _ => &[],
        };
        let pairs = lists[pairs].iter().map(|item| match *pair(item) {
            [key, value] => Ok((key, value)),
            _ => Err("an entry of a dictionary is not a pair"),
        });
        let pairs = pairs.collect::<Result<_, _>>()?;
        Ok(Value::Dict(store(dicts, pairs)))
    }

    fn numbers(&self, tuple: Value) -> Outcome<Vec<u64>> {
        let numbers = self.built.tuple(tuple).ok_or("a shape is not a tuple")?;
        if numbers.len() > MAX_DIMENSIONS {
            return Err(format!("a tensor has more than {MAX_DIMENSIONS} dimensions"));
        }
        numbers.iter().map(|value| number(*value)).collect()
    }
}

const UNDERFLOW: &str = "the stack is empty";

fn global(module: &str, name: &str) -> Outcome<Value> {
    Global::find(module, name).map(Value::Global).ok_or_else(|| {
        format!(
            "it refers to `{}.{}`, which is not loaded from files; in Python, \
             `torch.save(model.state_dict(), …)` writes a file without it",
            shown(module),
            shown(name)
        )
    })
}

fn number(value: Value) -> Outcome<u64> {
    match value {
        Value::Int(number) => {
            u64::try_from(number).map_err(|_| format!("a size of {number} is not valid"))
        }
        _ => Err("a size is not an integer".into()),
    }
}
