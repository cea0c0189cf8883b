"""The services on Fargate: how large, how many, and how they are reached."""

from ipaddress import ip_network
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from byollm.settings.base import Section

# Memory in GiB that Fargate gives to each size of CPU.
# https://docs.aws.amazon.com/AmazonECS/latest/developerguide/fargate-tasks-services.html
FARGATE = {256: (0.5, 2), 512: (1, 4), 1024: (2, 8), 2048: (4, 16), 4096: (8, 30)}


class TaskSettings(Section):
    """The size of one task."""

    cpu: int = 512
    """CPU units; 1024 are one virtual CPU."""
    memory_mib: int = 1024
    """Memory in MiB."""

    @model_validator(mode="after")
    def _fargate_has_it(self) -> Self:
        page = "https://docs.aws.amazon.com/AmazonECS/latest/developerguide/fargate-tasks-services.html"
        if self.cpu not in FARGATE:
            raise ValueError(f"cpu {self.cpu}: Fargate has {', '.join(map(str, FARGATE))} ({page})")
        least, most = (round(gib * 1024) for gib in FARGATE[self.cpu])
        steps = {512, *range(1024, 30 * 1024 + 1, 1024)} if self.cpu < 4096 else range(8192, 30721, 1024)
        if not (least <= self.memory_mib <= most and self.memory_mib in steps):
            raise ValueError(
                f"memory_mib {self.memory_mib}: with cpu {self.cpu}, Fargate gives {least} to {most} "
                f"in steps of 1024 ({page})"
            )
        return self


class ServicesSettings(Section):
    """The gateway and the page on Fargate, behind one load balancer."""

    gateway: TaskSettings = TaskSettings()
    """One task of the gateway, the proxy of Service Connect beside it included."""
    frontend: TaskSettings = TaskSettings(cpu=512, memory_mib=2048)
    """One task of the page, the proxy included."""
    minimum: Annotated[int, Field(ge=1)] = 1
    """Tasks of each service at least."""
    maximum: Annotated[int, Field(ge=1, le=100)] = 10
    """Tasks of each service at most."""
    requests_per_target: Annotated[int, Field(ge=1)] = 600
    """Requests a minute and task that scaling aims at."""
    cpu_percent: Annotated[int, Field(ge=10, le=95)] = 70
    """CPU use that scaling aims at."""
    memory_percent: Annotated[int, Field(ge=10, le=95)] = 80
    """Memory use that scaling aims at."""
    sources: Annotated[tuple[str, ...], Field(min_length=1)] = ("0.0.0.0/0",)
    """Networks that may reach the load balancer. The gateway asks for no key: unless people log in, narrow
    it to those who may use the model."""
    certificate_arn: (
        Annotated[str, Field(pattern=r"^arn:aws:acm:[a-z0-9-]+:\d{12}:certificate/[\w-]+$")] | None
    ) = None
    """Certificate in ACM, of the same region. With it the services speak HTTPS, and HTTP leads there."""
    domain: Annotated[str, Field(pattern=r"^([a-z0-9-]+\.)+[a-z]{2,}$")] | None = None
    """Name that the certificate is for; have it point at the load balancer."""
    login: bool = False
    """People log in with Cognito before they see the page, and the API takes Cognito's access tokens only.
    Needs `certificate_arn` and `domain`."""
    rate_limit: Annotated[int, Field(ge=10, le=2_000_000_000)] = 2000
    """Requests in five minutes that one address may send."""
    idle_timeout_s: Annotated[int, Field(ge=60, le=4000)] = 600
    """How long the load balancer keeps a connection on which nothing comes."""

    @field_validator("sources")
    @classmethod
    def _networks(cls, sources: tuple[str, ...]) -> tuple[str, ...]:
        for source in sources:
            if ip_network(source).version != 4:
                raise ValueError(f"{source}: the load balancer has IPv4 addresses only; give such a network")
        return sources

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.minimum > self.maximum:
            raise ValueError(f"minimum {self.minimum} is more than maximum {self.maximum}")
        return self

    @model_validator(mode="after")
    def _a_login_is_encrypted(self) -> Self:
        if self.login and not (self.certificate_arn and self.domain):
            raise ValueError(
                "login: a load balancer asks for one on HTTPS only, and sends people back to a name. Set "
                "certificate_arn and domain "
                "(https://docs.aws.amazon.com/elasticloadbalancing/latest/application/listener-authenticate-users.html)"
            )
        return self
