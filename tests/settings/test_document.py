"""docs/configuration.md says what the code says."""

from pathlib import Path
from typing import get_args

from pydantic import BaseModel

from byollm.settings import Settings
from byollm.settings.document import document


def test_the_page_is_up_to_date() -> None:
    page = Path("docs/configuration.md").read_text()
    assert page == document(), "run: byollm config docs > docs/configuration.md"


def test_every_field_is_described() -> None:
    def undescribed(section: type[BaseModel], path: str) -> list[str]:
        found = []
        for name, field in section.model_fields.items():
            if not field.description:
                found.append(f"{path}{name}")
            for part in (field.annotation, *get_args(field.annotation)):
                if isinstance(part, type) and issubclass(part, BaseModel):
                    found += undescribed(part, f"{path}{name}.")
        return found

    assert undescribed(Settings, "") == []
