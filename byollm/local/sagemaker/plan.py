"""What an endpoint is to run, kept with it: its models and configuration may be deleted meanwhile."""

from typing import Literal

from byollm.local.protocol import Members
from byollm.settings.base import Section

STARTUP_S = 600  # what AWS waits where nothing is said


class ContainerPlan(Section):
    """One container: its image, what it is told, and where its model is."""

    image: str
    """As AWS names it."""
    environment: dict[str, str]
    """The model's variables."""
    model: str | None = None
    """Where the files are: an S3 prefix, or an archive."""
    archive: bool = False
    """Whether `model` is a .tar.gz, to be unpacked."""
    startup_s: int = STARTUP_S
    """How long it may take to answer its first health check."""

    @classmethod
    def of(cls, container: Members, startup_s: int | None) -> "ContainerPlan":
        """Read a model's container, or that of a component's specification."""
        source = container.get("ModelDataSource", {}).get("S3DataSource", {})
        url = container.get("ModelDataUrl") or container.get("ArtifactUrl")
        return cls(
            image=container["Image"],
            environment=container.get("Environment", {}),
            model=source.get("S3Uri") or url,
            archive=source.get("CompressionType") == "Gzip" if source else url is not None,
            startup_s=startup_s or STARTUP_S,
        )


class VariantPlan(Section):
    """A production or shadow variant as it should be now."""

    name: str
    """Of the variant."""
    instance_type: str
    """In name only: every instance is a container on this machine."""
    count: int
    """Instances; of a variant that hosts components, its initial ones."""
    weight: float
    """Its share of the requests, in proportion to the others'."""
    shadow: bool = False
    """Whether it gets copies of requests whose answers nobody sees."""
    strategy: Literal["LEAST_OUTSTANDING_REQUESTS", "RANDOM"] = "RANDOM"
    """How an instance is chosen."""
    container: ContainerPlan | None = None
    """What each instance runs; None where components are to."""
    managed: tuple[int, int] | None = None
    """Fewest and most instances, where their number follows the components."""


class EndpointPlan(Section):
    """An endpoint as it should be now."""

    config: str
    """The name of the configuration it was made from."""
    variants: tuple[VariantPlan, ...]
    """All of them, the shadow last."""

    @property
    def hosts_components(self) -> bool:
        """Whether components run on it, not models of its own."""
        return self.variants[0].container is None

    def variant(self, name: str) -> VariantPlan | None:
        """Return the variant of that name, or None."""
        return next((variant for variant in self.variants if variant.name == name), None)

    def with_variants(self, changed: dict[str, dict[str, float]]) -> "EndpointPlan":
        """Return a plan in which the named variants have other members, such as `count` or `weight`."""
        variants = tuple(one.model_copy(update=changed.get(one.name, {})) for one in self.variants)
        return self.model_copy(update={"variants": variants})


def plan_of(config: Members, models: dict[str, Members]) -> EndpointPlan:
    """Plan an endpoint.

    Args:
        config: as DescribeEndpointConfig gives it.
        models: those it names, as DescribeModel gives them.
    """
    variants = [(one, False) for one in config["ProductionVariants"]]
    variants += [(one, True) for one in config.get("ShadowProductionVariants", ())]
    return EndpointPlan(
        config=config["EndpointConfigName"],
        variants=tuple(_variant(one, shadow, models) for one, shadow in variants),
    )


def _variant(given: Members, shadow: bool, models: dict[str, Members]) -> VariantPlan:
    model = models.get(given.get("ModelName", ""))
    startup_s = given.get("ContainerStartupHealthCheckTimeoutInSeconds")
    managed = given.get("ManagedInstanceScaling", {})
    count = given.get("InitialInstanceCount", 1)
    return VariantPlan(
        name=given["VariantName"],
        instance_type=given["InstanceType"],
        count=count,
        weight=given.get("InitialVariantWeight", 1.0),
        shadow=shadow,
        strategy=given.get("RoutingConfig", {}).get("RoutingStrategy", "RANDOM"),
        container=ContainerPlan.of(only_container(model), startup_s) if model else None,
        managed=(managed.get("MinInstanceCount", 1), managed.get("MaxInstanceCount", count))
        if managed.get("Status") == "ENABLED"
        else None,
    )


def only_container(model: Members) -> Members:
    """Return the one container of a model."""
    container: Members = (model.get("Containers") or [model.get("PrimaryContainer", {})])[0]
    return container
