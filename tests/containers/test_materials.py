"""Every image says what is in it."""

import json

import pytest

from tests.containers.support import command

BILL = "/opt/byollm/sbom.cdx.json"


@pytest.mark.parametrize(
    ("image", "package"),
    [("inference", "torch"), ("training", "matplotlib"), ("gateway", "fastapi"), ("frontend", "gradio")],
)
def test_an_image_has_its_bill_of_materials(images: str, image: str, package: str) -> None:
    whole = ("run", "--rm", "--network", "none", "--entrypoint", "python", f"{images}-{image}", "-c")
    bill = json.loads(command(*whole, f"print(open('{BILL}').read())"))
    assert bill["bomFormat"] == "CycloneDX"
    told = {each["name"].lower().replace("_", "-"): each["version"] for each in bill["components"]}
    listing = (
        "import json; from importlib.metadata import distributions as there; "
        "print(json.dumps({each.name: each.version for each in there()}))"
    )
    found = json.loads(command(*whole, listing))
    assert package in told
    assert told == {name.lower().replace("_", "-"): version for name, version in found.items()}
