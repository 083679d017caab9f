"""A pickle parser that runs nothing, and the few operations that writing needs.

A pickle is a program for a stack machine. This machine implements the operations that build plain values, calls only
the functions that its caller allows by name, and cannot import. Every count and length is checked against the file
before memory is allocated for it.
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from weights.formats.tensors import ITEMSIZE, Tensor, from_buffer
from zoo.errors import WeightsError

MOST_OPERATIONS = 500_000
"""More than any training checkpoint of the family has (Inception-ResNet-v2 with Adam and EMA: 200,000)."""

LONGEST_INTEGER = 1024
"""Bytes; Python still prints an integer of this length in decimal."""

LONG_TEXT = 1 << 16
"""Bytes above which a text is not decoded until needed: a Python string takes up to four times the memory."""

STAND_INS = (
    "argparse.Namespace",
    "builtins.complex",
    "builtins.frozenset",
    "builtins.getattr",  # mmengine's HistoryBuffer keeps bound methods
    "builtins.range",
    "builtins.set",
    "collections.Counter",
    "collections.deque",
    "datetime.date",
    "datetime.datetime",
    "datetime.timedelta",
    "mmengine.config.config.ConfigDict",
    "mmengine.logging.history_buffer.HistoryBuffer",
    "pathlib.PosixPath",
    "pathlib._local.PosixPath",
    "pathlib.WindowsPath",
    "torch.device",
    "types.SimpleNamespace",
)
"""Classes of objects that training loops store beside the weights: an empty stand-in replaces them, unimported."""


class Function:
    """A function that a pickle may call."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call


class StandIn(dict[Any, Any]):
    """Replaces an object that is not needed here; it accepts any state, and keeps none."""

    def __setitem__(self, key: Any, value: Any) -> None:
        pass


class NumpyType:
    """A numpy.dtype: a code such as f4, then its byte order."""

    def __init__(self, code: Any, *_: Any) -> None:
        if not isinstance(code, str) or len(code) > 20:
            raise TypeError("an element type that is not a short string")
        type_names = {"f": "float", "i": "int", "u": "uint", "b": "bool"}
        code = code.lstrip("<>=|")
        bits = int(code[1:]) * 8 if code[1:].isdigit() else 0
        self.name = "bool" if code == "b1" else f"{type_names.get(code[:1], code[:1])}{bits}"
        self.order = "<"

    def set_state(self, state: Any) -> None:
        self.order = ">" if state[1] == ">" else "<"


class NumpyArray:
    """A numpy.ndarray, whose state follows in the pickle; it gets no tensor where its elements are not numbers."""

    tensor: Tensor

    def set_state(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        self.fill(data, dtype, shape, fortran)

    def fill(self, data: Any, dtype: Any, shape: Any, fortran: Any) -> None:
        if not isinstance(dtype, NumpyType) or not isinstance(shape, tuple):
            raise TypeError("an array without type or shape")
        if dtype.name in ITEMSIZE:
            self.tensor = from_buffer(as_bytes(data), dtype.name, shape, dtype.order, bool(fortran))


class LongText:
    """A text of more than LONG_TEXT bytes, not yet decoded."""

    def __init__(self, data: memoryview) -> None:
        self.data = data


def _array(data: Any, dtype: Any, shape: Any, order: Any = "C") -> NumpyArray:
    array = NumpyArray()
    array.fill(data, dtype, shape, order == "F")
    return array


def _scalar(dtype: Any, data: Any) -> Any:
    array = NumpyArray()
    array.fill(data, dtype, (), False)
    return array.tensor.read().item() if hasattr(array, "tensor") else None


def _encode(text: Any, encoding: Any = "utf-8") -> Any:
    if encoding != "latin1":
        raise TypeError("a text in an encoding other than latin1")
    if not isinstance(text, LongText):
        return memoryview(text.encode("latin1"))
    result, decoder = bytearray(), codecs.getincrementaldecoder("utf-8")()
    for at in range(0, len(text.data), LONG_TEXT):
        result += decoder.decode(text.data[at : at + LONG_TEXT]).encode("latin1")
    return memoryview(result)


def as_bytes(data: Any) -> memoryview:
    """Bytes of Python 3, or the text that Python 2's become."""
    return memoryview(data.encode("latin1")) if isinstance(data, str) else memoryview(data)


def _ordered(pairs: Any = ()) -> dict[Any, Any]:
    result: dict[Any, Any] = {}
    for key, value in as_tuple(pairs):
        _insert(result, key, value)
    return result


def as_tuple(values: Any = ()) -> tuple[Any, ...]:
    """A list or tuple as a tuple; not a string, as one of a million characters would become a million strings."""
    if not isinstance(values, list | tuple):
        raise TypeError(f"a {type(values).__name__} where a list was expected")
    return tuple(values)


def _no_bytes() -> memoryview:
    """Protocol 2's way to write b""."""
    return memoryview(b"")


def _new_array(*_: Any) -> NumpyArray:
    return NumpyArray()


def _stand_in(*_: Any, **__: Any) -> StandIn:
    return StandIn()


NUMPY: dict[str, Callable[..., Any]] = {
    "multiarray._reconstruct": _new_array,
    "multiarray.scalar": _scalar,
    "numeric._frombuffer": _array,
}
"""Functions of numpy.core in version 1, and of numpy._core in version 2."""


PLAIN: dict[str, Any] = {
    "collections.OrderedDict": Function(_ordered),
    "collections.defaultdict": Function(lambda *_: {}),
    "builtins.tuple": Function(as_tuple),
    "builtins.dict": Function(_ordered),
    "builtins.list": None,
    "builtins.int": None,
    "builtins.float": None,
    "builtins.str": None,
    "builtins.bytes": Function(_no_bytes),
    "_codecs.encode": Function(_encode),
    "numpy.ndarray": None,
    "numpy.dtype": Function(NumpyType),
    **{name: Function(_stand_in) for name in STAND_INS},
    **{f"numpy.{core}.{name}": Function(call) for core in ("core", "_core") for name, call in NUMPY.items()},
}
"""What any pickle may refer to: containers, NumPy's arrays, stand-ins."""


def load(
    data: memoryview, at: int, functions: Mapping[str, Any], persistent: Callable[[Any], Any] | None = None
) -> tuple[Any, int]:
    """The value of the pickle that starts at byte `at`, and where it ends.

    functions   what it may refer to besides `PLAIN`; a `Function` may also be called
    persistent  returns the value of a persistent id

    Raises WeightsError, with the reason, for any other pickle.
    """
    machine = _Machine(data, at, {**PLAIN, **functions}, persistent)
    try:
        return machine.run(), machine.at
    except WeightsError:
        raise
    except (ArithmeticError, AttributeError, LookupError, MemoryError, TypeError, ValueError, struct.error) as error:
        machine.fail(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)


def _insert(mapping: Any, key: Any, value: Any) -> None:
    """Set an entry. Keys must be plain: hashing a tuple of tuples of ... could exhaust the stack."""
    if not isinstance(mapping, dict) or not isinstance(key, str | int | float | bytes | None):
        raise TypeError(f"a key of type {type(key).__name__} in a {type(mapping).__name__}")
    mapping[key] = value


class _Machine:
    def __init__(
        self, data: memoryview, at: int, functions: Mapping[str, Any], persistent: Callable[[Any], Any] | None
    ) -> None:
        self.data, self.at, self.functions, self.persistent = data, at, functions, persistent
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.credit = len(data) + LONG_TEXT

    def run(self) -> Any:
        for _ in range(MOST_OPERATIONS):
            operation = self.data[self.at]
            self.at += 1
            if operation == ord("."):
                return self.stack.pop()
            if operation in PUSH:
                self.stack.append(PUSH[operation](self))
            elif operation in ACT:
                ACT[operation](self)
            else:
                self.fail(f"operation {bytes([operation])!r} is not used in checkpoints")
        self.fail(f"more than {MOST_OPERATIONS:,} operations")

    def fail(self, reason: str) -> NoReturn:
        raise WeightsError(f"not a readable pickle, at byte {self.at}: {reason}")

    def take(self, count: int) -> memoryview:
        if count < 0 or count > len(self.data) - self.at:
            raise ValueError(f"{count} bytes wanted, {len(self.data) - self.at} left")
        self.at += count
        return self.data[self.at - count : self.at]

    def unsigned(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def signed(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little", signed=True)

    def long(self, size: int) -> int:
        length = self.unsigned(size)
        if length > LONGEST_INTEGER:
            raise ValueError(f"an integer of {length} bytes")
        return self.signed(length)

    def line(self) -> str:
        end = bytes(self.data[self.at : self.at + 1024]).find(b"\n")
        if end < 0:
            raise ValueError("a line without an end")
        return str(self.take(end + 1)[:-1], "utf-8")

    def text(self, size: int, encoding: str = "utf-8") -> str | LongText:
        data = self.take(self.unsigned(size))
        return LongText(data) if len(data) > LONG_TEXT and encoding == "utf-8" else str(data, encoding)

    def since_mark(self) -> list[Any]:
        start = self.marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def last(self, count: int) -> tuple[Any, ...]:
        if count > len(self.stack):
            raise LookupError("the stack is empty")
        values = tuple(self.stack[len(self.stack) - count :])
        del self.stack[len(self.stack) - count :]
        return values

    def pairs(self, values: list[Any]) -> None:
        for key, value in zip(values[::2], values[1::2], strict=True):
            _insert(self.stack[-1], key, value)

    def extend(self, values: list[Any]) -> None:
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(values)
        elif not isinstance(self.stack[-1], StandIn):
            raise TypeError(f"{type(self.stack[-1]).__name__} takes no elements")

    def look_up(self, module: Any, name: Any) -> Any:
        if not isinstance(module, str) or not isinstance(name, str):
            raise TypeError("an import of something that is not a name")
        name = f"{module}.{name}"
        for old, new in (("__builtin__.", "builtins."), ("torch.cuda.", "torch.")):
            name = name.replace(old, new, 1) if name.startswith(old) else name
        if name not in self.functions:
            self.fail(
                f"it would import {name[:80]}, which reading weights does not need; nothing was imported or run. "
                "If you trust the file, load it where it was made and save its state_dict alone"
            )
        return self.functions[name]

    def call(self, function: Any, arguments: Any, names: Mapping[str, Any] | None = None) -> None:
        if not isinstance(function, Function) or not isinstance(arguments, tuple):
            raise TypeError("a call of something that is not a function")
        self.spend(arguments)
        self.stack.append(function.call(*arguments, **(names or {})))

    def spend(self, values: Any) -> None:
        """Limit what all calls together may copy to about the file's size: a value can be referred to many times."""
        if isinstance(values, tuple):
            sized = (value.data if isinstance(value, LongText) else value for value in values)
            self.credit -= sum(len(value) for value in sized if isinstance(value, list | tuple | str | memoryview))
        if self.credit < 0:
            self.fail("it copies more than the file holds")

    def build(self) -> None:
        state = self.stack.pop()
        self.spend(state)
        if isinstance(self.stack[-1], NumpyArray | NumpyType):
            self.stack[-1].set_state(state)
        elif not isinstance(self.stack[-1], dict):  # a dictionary's attributes: state_dict()._metadata
            raise TypeError(f"a state for {type(self.stack[-1]).__name__}")

    def persist(self, identity: Any) -> None:
        if self.persistent is None:
            raise TypeError("a reference to something outside")
        self.stack.append(self.persistent(identity))


def _operations(table: dict[bytes, Callable[[_Machine], Any]]) -> dict[int, Callable[[_Machine], Any]]:
    return {operation[0]: action for operation, action in table.items()}


PUSH = _operations(
    {
        b"N": lambda m: None,
        b"\x88": lambda m: True,
        b"\x89": lambda m: False,
        b"I": lambda m: int(m.line()),
        b"J": lambda m: m.signed(4),
        b"K": lambda m: m.unsigned(1),
        b"M": lambda m: m.unsigned(2),
        b"L": lambda m: int(m.line().rstrip("L")),
        b"\x8a": lambda m: m.long(1),
        b"\x8b": lambda m: m.long(4),
        b"G": lambda m: struct.unpack(">d", m.take(8))[0],
        b"U": lambda m: m.text(1, "latin1"),
        b"T": lambda m: m.text(4, "latin1"),
        b"X": lambda m: m.text(4),
        b"\x8c": lambda m: m.text(1),
        b"\x8d": lambda m: m.text(8),
        b"C": lambda m: m.take(m.unsigned(1)),
        b"B": lambda m: m.take(m.unsigned(4)),
        b"\x8e": lambda m: m.take(m.unsigned(8)),
        b"\x96": lambda m: m.take(m.unsigned(8)),
        b")": lambda m: (),
        b"]": lambda m: [],
        b"}": lambda m: {},
        b"\x8f": lambda m: StandIn(),
        b"\x91": lambda m: _stand_in(m.since_mark()),
        b"t": lambda m: tuple(m.since_mark()),
        b"l": lambda m: m.since_mark(),
        b"\x85": lambda m: m.last(1),
        b"\x86": lambda m: m.last(2),
        b"\x87": lambda m: m.last(3),
        b"c": lambda m: m.look_up(m.line(), m.line()),
        b"\x93": lambda m: m.look_up(*m.last(2)),
        b"h": lambda m: m.memo[m.unsigned(1)],
        b"j": lambda m: m.memo[m.unsigned(4)],
        b"2": lambda m: m.stack[-1],
    }
)
"""Operations that put a value on the stack."""

ACT = _operations(
    {
        b"\x80": lambda m: m.take(1),
        b"\x95": lambda m: m.take(8),
        b"(": lambda m: m.marks.append(len(m.stack)),
        b"0": lambda m: m.stack.pop(),
        b"1": lambda m: m.since_mark(),
        b"q": lambda m: m.memo.__setitem__(m.unsigned(1), m.stack[-1]),
        b"r": lambda m: m.memo.__setitem__(m.unsigned(4), m.stack[-1]),
        b"\x94": lambda m: m.memo.__setitem__(len(m.memo), m.stack[-1]),
        b"a": lambda m: m.extend(list(m.last(1))),
        b"e": lambda m: m.extend(m.since_mark()),
        b"\x90": lambda m: m.extend(m.since_mark()),
        b"s": lambda m: m.pairs(list(m.last(2))),
        b"u": lambda m: m.pairs(m.since_mark()),
        b"R": lambda m: m.call(*m.last(2)),
        b"\x81": lambda m: m.call(*m.last(2)),
        b"\x92": lambda m: m.call(*m.last(3)),
        b"b": lambda m: m.build(),
        b"Q": lambda m: m.persist(m.stack.pop()),
    }
)
"""Operations that change values on the stack."""


def emit(value: Any) -> bytes:
    """The operations that put a plain value on the stack: a text, an integer, a bool, None, a tuple of them."""
    match value:
        case None:
            return b"N"
        case bool():
            return b"\x88" if value else b"\x89"
        case int() if 0 <= value < 256:
            return b"K" + value.to_bytes(1, "little")
        case int() if -(2**31) <= value < 2**31:
            return b"J" + value.to_bytes(4, "little", signed=True)
        case int():
            return b"\x8a\x0a" + value.to_bytes(10, "little", signed=True)
        case str():
            data = value.encode()
            return b"X" + len(data).to_bytes(4, "little") + data
        case tuple():
            return b"(" + b"".join(map(emit, value)) + b"t"
    raise TypeError(f"a {type(value).__name__}")


def emit_global(module: str, name: str) -> bytes:
    """The operation that names a class or function."""
    return f"c{module}\n{name}\n".encode()
