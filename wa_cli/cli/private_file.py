"""Files that a command writes for its user: readable by them alone, complete or not there, never over another file."""

from __future__ import annotations

import os
import secrets
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TextIO

from wa_cli.errors import StorageError, StorageFull, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def new_private_file(path: Path, *, force: bool) -> Iterator[TextIO]:
    """A new text file (UTF-8, mode 0600) that takes its name when the block ends well, and is gone when it raises.

    force: replace a file of that name.
    Raises: UsageError when there is one and not force, or when it is a folder; StorageError when it cannot be written.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder", hint="give the name of a file in it", code="is_folder")
    if path.exists() and not path.is_file():  # a device or a pipe is no place to put a name on
        raise UsageError(
            f"{path} is not a plain file", hint="leave the name away to write to stdout", code="not_a_file"
        )
    if path.is_symlink():
        path = path.resolve()
    if path.exists() and not force:
        raise _exists(path)
    draft = path.with_name(f".wa-{os.getpid()}-{secrets.token_hex(4)}.new")
    try:
        descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with open(descriptor, "w", encoding="utf-8", newline="") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if force:
            os.replace(draft, path)
        else:
            _take_name(draft, path)
    except FileExistsError as error:
        raise _exists(path) from error
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        with suppress(OSError):
            draft.unlink()


def replace_private_bytes(path: Path, content: bytes) -> None:
    """Write a file (mode 0600) that takes its name when it is complete, in place of an earlier one.

    Raises: UsageError when the name is taken by something else; StorageError when it cannot be written.
    """
    if path.exists() and not path.is_file():
        raise UsageError(f"{path} is not a plain file", hint="give the name of a file", code="not_a_file")
    draft = path.with_name(f".wa-{os.getpid()}-{secrets.token_hex(4)}.new")
    try:
        descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with open(descriptor, "wb") as file:
            file.write(content)
        os.replace(draft, path)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        with suppress(OSError):
            draft.unlink()


def _take_name(draft: Path, path: Path) -> None:
    try:
        os.link(draft, path)  # refuses to replace a file that has come meanwhile
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if path.exists():
            raise FileExistsError from None
        draft.rename(path)


def _exists(path: Path) -> UsageError:
    return UsageError(
        f"there is a file {path} already", hint="choose another name, or add --force to replace it", code="file_exists"
    )


def _cannot_write(path: Path, error: OSError) -> StorageError:
    import errno

    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull(f"no space left to write {path}", hint="free some space, then run the same command")
    return StorageError(
        f"{path} cannot be written: {error.strerror}", hint="check its folder and who owns it", code="file_not_written"
    )
