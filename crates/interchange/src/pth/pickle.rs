//! Python's pickle, as far as a dictionary of tensors needs it (`pickletools`, PEP 307 and 3154).
//!
//! A pickle is a program for a stack machine that may call anything in Python. This machine knows the operations that build
//! plain values and a short list of names, for which it makes inert values of its own; every other operation or name ends the reading
//! with an error that says where it is. Nothing is ever executed.
//!
//! All compound values live in lists, one a kind, and refer to each other by their places there: a value that contains itself, or
//! a nesting of any depth, is then neither walked nor dropped recursively.

use std::collections::BTreeMap;

use alexnet_core::text::shown;

use crate::tensor::Dtype;

/// A pickle may be of this many bytes, execute this many operations, and have this many values on its stack at once. A state
/// dictionary takes some fifty bytes and thirty operations a tensor.
pub const MAX_BYTES: usize = 16 << 20;
const MAX_OPERATIONS: usize = 250_000;
const MAX_STACK: usize = 1 << 16;

/// No name is longer, nor has a tensor more dimensions (PyTorch's limit): both are copied each time that they are used.
const MAX_NAME: usize = 1 << 10;
const MAX_DIMENSIONS: usize = 64;

/// A value; compound ones by their place in [`Pickle`].
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
    /// Something beside the tensors whose content is of no interest.
    Opaque,
}

/// The names that a pickle may use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Global {
    OrderedDict,
    Size,
    RebuildTensor,
    RebuildTensorV2,
    RebuildParameter,
    /// Of a tensor with attributes.
    RebuildFromType,
    StorageType(Dtype),
    /// Names that a checkpoint holds beside its tensors; nothing is made of them.
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
            | ("torch", "Tensor" | "device" | "bool" | "uint8" | "int8" | "int16" | "int32" | "int64")
            | ("torch", "float16" | "bfloat16" | "float32" | "float64" | "complex64" | "complex128") => {
                Self::Opaque
            }
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

/// A block of numbers that tensors look into.
#[derive(Clone, Debug, PartialEq)]
pub struct Storage {
    pub key: String,
    pub dtype: Dtype,
    pub elements: u64,
}

/// A tensor: a view into a storage; offset and strides in elements.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    pub storage: usize,
    pub offset: u64,
    pub shape: Vec<u64>,
    pub strides: Vec<u64>,
}

/// What a pickle built.
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
    /// Runs the program at the start of `bytes`: what it builds, its result, and its length. Places in errors are counted from
    /// `start`.
    ///
    /// # Errors
    /// In words, with the operation and its place.
    pub fn read(bytes: &[u8], start: usize) -> Result<(Self, Value, usize), String> {
        let mut machine = Machine { bytes, ..Machine::default() };
        for _ in 0..MAX_OPERATIONS {
            let at = start + machine.at;
            let operation = machine.byte().map_err(|_| format!("it ends at byte {at}, before its STOP"))?;
            let refuse = |reason| format!("operation {} at byte {at}: {reason}", name(operation));
            if operation == STOP {
                let result = machine.pop().map_err(refuse)?;
                return Ok((machine.built, result, machine.at));
            }
            let value = machine.execute(operation).map_err(refuse)?;
            machine.stack.extend(value);
            if machine.stack.len() + machine.marks.len() > MAX_STACK {
                return Err(refuse(format!("it is nested too deep: {MAX_STACK} values wait for their end")));
            }
        }
        Err(format!("it has more than {MAX_OPERATIONS} operations"))
    }

    /// The text that `value` is.
    pub fn text(&self, value: Value) -> Option<&str> {
        if let Value::Text(place) = value { self.texts.get(place).map(String::as_str) } else { None }
    }

    /// The text that `value` is, fit for a message.
    ///
    /// # Errors
    /// When it is no text, a long one, or one that would move the cursor.
    pub fn name(&self, value: Value) -> Result<&str, String> {
        match self.text(value) {
            None => Err("a name is no text".into()),
            Some(text) if text.len() > MAX_NAME => Err(format!("a name is longer than {MAX_NAME} bytes")),
            Some(text) if text.contains(char::is_control) => Err(format!("{text:?} is no name")),
            Some(text) => Ok(text),
        }
    }

    fn tuple(&self, value: Value) -> Option<&[Value]> {
        if let Value::Tuple(place) = value { self.tuples.get(place).map(Vec::as_slice) } else { None }
    }
}

/// The operations of pickle, by their names in Python's `pickletools`.
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

/// For errors: the refused operations that a hostile file is most likely to hold, the others by their byte.
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
    /// Lengths of the stack at the marks.
    marks: Vec<usize>,
    memo: BTreeMap<u32, Value>,
    /// Places of the storages by their keys.
    storages: BTreeMap<String, usize>,
    /// Entries of lists that became dictionaries.
    copied: usize,
}

type Outcome<T = ()> = Result<T, String>;

/// Keeps a compound value and gives its place.
fn keep<T>(values: &mut Vec<T>, value: T) -> usize {
    values.push(value);
    values.len() - 1
}

impl<'a> Machine<'a> {
    /// One operation, and the value that it leaves on the stack.
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
            EMPTY_LIST => Value::List(keep(&mut self.built.lists, vec![])),
            EMPTY_DICT => Value::Dict(keep(&mut self.built.dicts, vec![])),
            EMPTY_TUPLE => self.tuple(vec![]),
            EMPTY_SET => Value::Opaque,
            ADDITEMS => {
                self.since_mark()?;
                match self.stack.last() {
                    Some(Value::Opaque) => return Ok(None),
                    _ => return Err("there is no set to put something in".into()),
                }
            }
            TUPLE1 | TUPLE2 | TUPLE3 => {
                let mut items = (TUPLE1..=operation).map(|_| self.pop()).collect::<Outcome<Vec<_>>>()?;
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
                // The attributes of a dictionary (`_metadata`) say nothing about its tensors.
                self.pop()?;
                self.dict()?;
                return Ok(None);
            }
            BINPUT => {
                let place = self.byte()?.into();
                return self.remember(place);
            }
            LONG_BINPUT => {
                let place = u32::from_le_bytes(self.array()?);
                return self.remember(place);
            }
            MEMOIZE => return self.remember(self.memo.len() as u32),
            BINGET => {
                let place = self.byte()?.into();
                self.recall(place)?
            }
            LONG_BINGET => {
                let place = u32::from_le_bytes(self.array()?);
                self.recall(place)?
            }
            GLOBAL => {
                let (module, name) = (self.line()?, self.line()?);
                global(module, name)?
            }
            STACK_GLOBAL => {
                let (name, module) = (self.pop()?, self.pop()?);
                match (self.built.text(module), self.built.text(name)) {
                    (Some(module), Some(name)) => global(module, name)?,
                    _ => return Err("a name is no text".into()),
                }
            }
            BINPERSID => self.storage()?,
            REDUCE => self.reduce()?,
            _ => return Err("it is not one that a state dictionary needs, and is not executed".into()),
        };
        Ok(Some(value))
    }

    fn take(&mut self, length: usize) -> Outcome<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        let taken = rest.get(..length).ok_or("the pickle ends within it")?;
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

    /// Up to the next line feed.
    fn line(&mut self) -> Outcome<&'a str> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|byte| *byte == b'\n').ok_or("the pickle ends within it")?;
        let line = self.take(length + 1)?;
        std::str::from_utf8(&line[..length]).map_err(|_| "a name is not UTF-8".into())
    }

    fn text(&mut self, length: usize) -> Outcome<Value> {
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| "its text is not UTF-8")?;
        Ok(Value::Text(keep(&mut self.built.texts, text.to_owned())))
    }

    /// Two's complement, little-endian.
    fn long(&mut self, length: usize) -> Outcome<Value> {
        let bytes = self.take(length)?;
        let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
        let mut all = [if negative { 0xff } else { 0 }; 16];
        all.get_mut(..length).ok_or("the number is too large")?.copy_from_slice(bytes);
        Ok(Value::Int(i128::from_le_bytes(all)))
    }

    fn tuple(&mut self, items: Vec<Value>) -> Value {
        Value::Tuple(keep(&mut self.built.tuples, items))
    }

    fn pop(&mut self) -> Outcome<Value> {
        // What stands before a mark belongs to it.
        if self.stack.len() <= self.marks.last().copied().unwrap_or(0) {
            return Err(UNDERFLOW.into());
        }
        self.stack.pop().ok_or_else(|| UNDERFLOW.into())
    }

    fn since_mark(&mut self) -> Outcome<Vec<Value>> {
        let mark = self.marks.pop().ok_or("there is no mark")?;
        Ok(self.stack.split_off(mark))
    }

    /// The list on top of the stack.
    fn list(&mut self) -> Outcome<&mut Vec<Value>> {
        match self.stack.last() {
            Some(Value::List(place)) => Ok(&mut self.built.lists[*place]),
            _ => Err("there is no list to append to".into()),
        }
    }

    /// The dictionary on top of the stack.
    fn dict(&mut self) -> Outcome<&mut Vec<(Value, Value)>> {
        match self.stack.last() {
            Some(Value::Dict(place)) => Ok(&mut self.built.dicts[*place]),
            _ => Err("there is no dictionary to put something in".into()),
        }
    }

    fn remember(&mut self, place: u32) -> Outcome<Option<Value>> {
        let value = *self.stack.last().ok_or(UNDERFLOW)?;
        self.memo.insert(place, value);
        Ok(None)
    }

    fn recall(&self, place: u32) -> Outcome<Value> {
        self.memo.get(&place).copied().ok_or_else(|| format!("nothing was remembered as {place}"))
    }

    /// `('storage', type, key, location, elements)`
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
                let elements =
                    u64::try_from(elements).map_err(|_| format!("a storage of {elements} elements"))?;
                (kind, Storage { key, dtype, elements })
            }
            _ => return Err("it names no storage as PyTorch does".into()),
        };
        if self.built.text(kind) != Some("storage") {
            return Err("it names something else than a storage".into());
        }
        match self.storages.get(&storage.key) {
            Some(&place) if self.built.storages[place] == storage => Ok(Value::Storage(place)),
            Some(_) => Err(format!("the storage `{}` is described in two ways", storage.key)),
            None => {
                let key = storage.key.clone();
                let place = keep(&mut self.built.storages, storage);
                self.storages.insert(key, place);
                Ok(Value::Storage(place))
            }
        }
    }

    /// A call of one of the known names.
    fn reduce(&mut self) -> Outcome<Value> {
        let (mut arguments, mut function) = (self.pop()?, self.pop()?);
        if function == Value::Global(Global::RebuildFromType)
            && let Some(&[inner, _type, inners, _attributes]) = self.built.tuple(arguments)
        {
            (function, arguments) = (inner, inners);
        }
        let arguments = self.built.tuple(arguments).ok_or("its arguments are no tuple")?;
        let Value::Global(function) = function else { return Err("it calls what is no function".into()) };
        match (function, arguments) {
            (Global::OrderedDict, []) => Ok(Value::Dict(keep(&mut self.built.dicts, vec![]))),
            (Global::OrderedDict, &[Value::List(pairs)]) => self.ordered(pairs),
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
                    return Err("a tensor has not as many strides as dimensions".into());
                }
                Ok(Value::Tensor(keep(&mut self.built.tensors, tensor)))
            }
            _ => Err("its arguments are not those that PyTorch gives it".into()),
        }
    }

    /// A dictionary that keeps its order as Python 2 wrote it: a list of pairs, each a list of two.
    fn ordered(&mut self, pairs: usize) -> Outcome<Value> {
        let Pickle { lists, tuples, dicts, .. } = &mut self.built;
        // Which takes no operation for each, as long as the list is the same.
        self.copied += lists[pairs].len();
        if self.copied > MAX_OPERATIONS {
            return Err(format!("its dictionaries have more than {MAX_OPERATIONS} entries"));
        }
        let pair = |item: &Value| match *item {
            Value::List(place) => lists[place].as_slice(),
            Value::Tuple(place) => tuples[place].as_slice(),
            _ => &[],
        };
        let pairs = lists[pairs].iter().map(|item| match *pair(item) {
            [key, value] => Ok((key, value)),
            _ => Err("an entry of a dictionary is no pair"),
        });
        let pairs = pairs.collect::<Result<_, _>>()?;
        Ok(Value::Dict(keep(dicts, pairs)))
    }

    fn numbers(&self, tuple: Value) -> Outcome<Vec<u64>> {
        let numbers = self.built.tuple(tuple).ok_or("a shape is no tuple")?;
        if numbers.len() > MAX_DIMENSIONS {
            return Err(format!("a tensor of more than {MAX_DIMENSIONS} dimensions"));
        }
        numbers.iter().map(|value| number(*value)).collect()
    }
}

const UNDERFLOW: &str = "there is nothing on the stack";

fn global(module: &str, name: &str) -> Outcome<Value> {
    Global::find(module, name).map(Value::Global).ok_or_else(|| {
        format!(
            "it asks for `{}.{}`, which is not loaded from a file; in Python, \
             `torch.save(model.state_dict(), …)` writes a file without it",
            shown(module),
            shown(name)
        )
    })
}

fn number(value: Value) -> Outcome<u64> {
    match value {
        Value::Int(number) => u64::try_from(number).map_err(|_| format!("a size of {number}")),
        _ => Err("a size is no number".into()),
    }
}
