# SPDX-License-Identifier: Apache-2.0
"""The JSON Schema of streams.yaml, for editors and for ``pipeline schema``."""

from __future__ import annotations

from typing import Any

from pipeline.config.config import Config


def json_schema() -> dict[str, Any]:
    """A JSON Schema (draft 2020-12) that every valid streams.yaml fits.

    It is a little wider than the loader, which also looks at keys together, at the environment and at duplicates.
    """
    schema = Config.model_json_schema()
    schema["required"] = ["streams"]
    for name, field in Config.model_fields.items():
        section = {"description": field.description, **schema["properties"][name]}
        # A section whose keys are all commented out is null to YAML; it means the defaults.
        schema["properties"][name] = section if "anyOf" in section else _or_null(section)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "streams.yaml"}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    notes: dict[str, Any] = {key: schema[key] for key in ("title", "description", "default") if key in schema}
    rest = {key: value for key, value in schema.items() if key not in notes}
    return {**notes, "anyOf": [rest, {"type": "null"}]}
