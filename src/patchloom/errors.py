"""Every error that Patchloom raises on purpose.

A message says what was asked, what was found and what to do. Each class also inherits the built-in
kind, so callers who know only Python's own exceptions catch it too.

    PatchloomError
      InputError (ValueError)          an argument or a file's content cannot be used
        GeometryError                  boxes, sizes or scales that do not fit
        FormatError                    a file that is not what it should be, or is damaged
        MismatchError                  two good things that do not belong together
      MissingError (FileNotFoundError) a file, folder or weight that is not there
      DependencyError (ImportError)    an optional package that is not installed
      CapacityError (OSError)          disk or memory that would not hold the result
"""

from __future__ import annotations


class PatchloomError(Exception):
    """The root: catch this to catch everything Patchloom says no to."""


class InputError(PatchloomError, ValueError):
    """An argument or a file's content that cannot be used."""


class GeometryError(InputError):
    """Boxes, sizes or scales that do not fit one another."""


class FormatError(InputError):
    """A file that is not what it should be, or is damaged."""


class MismatchError(InputError):
    """Two good things that do not belong together, such as a grid and another encoder's pipeline."""


class MissingError(PatchloomError, FileNotFoundError):
    """A file, folder or weight that is not there."""


class DependencyError(PatchloomError, ImportError):
    """An optional package that is not installed."""


class CapacityError(PatchloomError, OSError):
    """A disk or memory that would not hold the result."""
