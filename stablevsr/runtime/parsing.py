"""Validation of settings by pydantic models, with errors as one sentence: the key, what is wrong, the closest name."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, TypeVar

from pydantic import AfterValidator, BaseModel, ValidationError
from pydantic_core import PydanticKnownError

from stablevsr.runtime.errors import UserError, near_miss

Model = TypeVar("Model", bound=BaseModel)


def parse(model: type[Model], content: Any, where: Path | str) -> Model:
    """Validate ``content`` as ``model``. Raises :class:`UserError` with one sentence that begins with ``where``."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{where}: {explain(error, model)}") from error


def one_of(known: Collection[str]) -> AfterValidator:
    """For ``Annotated[str, one_of(REGISTRY)]``: a name that is registered, checked when it is read; else as Literal."""

    def check(name: str) -> str:
        if name not in known:
            raise PydanticKnownError("literal_error", {"expected": ", ".join(known)})
        return name

    return AfterValidator(check)


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """One error of a validation as one sentence: the key, what is wrong, the closest known name.

    An unknown key comes before other errors: a misspelt key is also missing under its right name.
    """
    fault = min(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
    key = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        known = _fields_at(model, fault["loc"][:-1])
        hint = near_miss(str(fault["loc"][-1]), known) or f" (known: {', '.join(known)})"
        return f"unknown key '{key}'{hint}"
    if fault["type"] == "missing":
        return f"'{key}' is missing"
    if fault["type"] == "literal_error":
        allowed = [part.strip().strip("'") for part in fault["ctx"]["expected"].replace(" or ", ", ").split(",")]
        hint = near_miss(str(fault["input"]), allowed)
        return f"'{key}' is {fault['input']!r}, which is not one of {', '.join(allowed)}{hint}"
    return f"'{key}': {fault['msg']} (got {fault['input']!r})" if key else fault["msg"]


def _fields_at(model: Any, path: tuple[int | str, ...]) -> list[str]:
    """The field names of the model that sits at ``path`` inside ``model``."""
    if not path:
        return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []
    annotation: Any = model
    if isinstance(model, type) and issubclass(model, BaseModel):
        field = model.model_fields.get(str(path[0]))
        annotation = field.annotation if field else None
        return _fields_at(annotation, path[1:])
    for inner in getattr(annotation, "__args__", ()):
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            rest = path[1:] if getattr(annotation, "__origin__", None) in (dict, list) else path
            return _fields_at(inner, rest)
    return []
