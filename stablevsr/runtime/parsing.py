"""Validation of settings by pydantic models; an error is one sentence with the key, the fault and the closest name."""

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


ONE_OF_FORMS = ""  #: a tag of pydantic unions that does not show in the key of an error


def one_of(known: Collection[str]) -> AfterValidator:
    """For ``Annotated[str, one_of(REGISTRY)]``: like Literal, but the names are those registered at validation."""

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
    key = ".".join(str(part) for part in fault["loc"] if part != ONE_OF_FORMS)
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
    """The field names of the model at ``path`` inside ``model``, which is a model or a field's annotation."""
    if isinstance(model, type) and issubclass(model, BaseModel):
        if not path:
            return [field.alias or name for name, field in model.model_fields.items()]
        field = model.model_fields.get(str(path[0]))
        return _fields_at(field.annotation if field else None, path[1:])
    rest = path[1:] if getattr(model, "__origin__", None) in (dict, list) else path
    inner = [kind for kind in getattr(model, "__args__", ()) if isinstance(kind, type) and issubclass(kind, BaseModel)]
    return _fields_at(inner[0], rest) if inner else []
