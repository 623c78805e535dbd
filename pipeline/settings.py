"""The base of every settings class: frozen, strict about names, hashable, and so safe to send to a worker."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
