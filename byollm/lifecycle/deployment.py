"""What the functions of one environment are told: the endpoint that should be, where, and as whom."""

import json
import os
import re
from typing import Any, Self

from pydantic import ValidationError, field_validator, model_validator

from byollm.lifecycle.artefact import digest
from byollm.settings.base import Section, explain
from byollm.settings.endpoint import EndpointSpec, Name
from byollm.settings.errors import SettingsError

VARIABLE = "BYOLLM_DEPLOYMENT"
"""The environment variable that holds a deployment as JSON."""


class Deployment(Section):
    """The declared endpoint of one environment."""

    environment: Name
    """Which environment, such as `dev`."""
    name: Name
    """Of the endpoint."""
    role_arn: str
    """The role that the endpoint's instances run as."""
    package_group: str
    """Where the versions of the model are registered."""
    spec: EndpointSpec = EndpointSpec()
    """The endpoint as it should be."""
    kms_key_arn: str | None = None
    """The key of the instances' disks, where the instance type takes one."""
    subnets: tuple[str, ...] = ()
    """The private subnets that the containers stand in; none for SageMaker's own network."""
    security_groups: tuple[str, ...] = ()
    """Who may talk to the containers in those subnets."""
    topic_arn: str | None = None
    """Where news for people goes."""

    @field_validator("spec", mode="before")
    @classmethod
    def _read(cls, spec: Any) -> Any:
        """Take the spec as text too, in which it comes through the CDK whole."""
        return json.loads(spec) if isinstance(spec, str) else spec

    @model_validator(mode="after")
    def _a_network_is_whole(self) -> Self:
        if bool(self.subnets) != bool(self.security_groups):
            raise ValueError("subnets and security_groups: give both, or none")
        return self

    @classmethod
    def from_environment(cls) -> Self:
        """Read the deployment from `BYOLLM_DEPLOYMENT`.

        Raises:
            SettingsError: there is none, or it is not one.
        """
        text = os.environ.get(VARIABLE)
        if not text:
            raise SettingsError(f"{VARIABLE} is not set: it holds the deployment as JSON (docs/lifecycle.md)")
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise SettingsError(f"{VARIABLE} is not a deployment:\n{explain(error, cls)}") from None

    @property
    def component(self) -> str:
        """Name of the inference component, where hosting is by components."""
        return f"{self.name}-main"

    @property
    def alarm_prefix(self) -> str:
        """What the names of the reconciler's alarms begin with."""
        return f"{self.name}-endpoint-"

    @property
    def tags(self) -> list[dict[str, str]]:
        """What everything of this environment is tagged with."""
        return [{"Key": "byollm:environment", "Value": self.environment}]

    def named(self, content: Any) -> str:
        """Return the name of a model or an endpoint configuration with this content."""
        return f"{self.name}-{digest(content)}"

    def owns(self, name: str) -> bool:
        """Whether a model or an endpoint configuration of this name is ours."""
        return re.fullmatch(rf"{re.escape(self.name)}-[0-9a-f]{{12}}", name) is not None
