"""The endpoint that serves the model: what it runs on, how it scales, how a new version takes over.

What SageMaker cannot combine is refused here, with the reason and the page of its documentation, so that it
fails in a second and not half an hour into a deployment.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from byollm.settings.base import Section
from byollm.settings.instances import DEFAULT_HOST_CUDA, HOST_IMAGES, INSTANCE_TYPES
from byollm.settings.memory import RUNTIME_GIB, Footprint

GUIDE = "https://docs.aws.amazon.com/sagemaker/latest/dg"
API = "https://docs.aws.amazon.com/sagemaker/latest/APIReference"

Name = Annotated[str, Field(pattern=r"^[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}$")]


class VariantSpec(Section):
    """One version of the model behind the endpoint, and its share of the requests."""

    name: Name
    """Its name, for people and metrics."""
    weight: Annotated[float, Field(ge=0, le=1_000_000)] = 1.0
    """Its share of the requests, in proportion to the other variants' weights."""
    shadow: bool = False
    """Whether it gets copies of requests whose answers nobody sees."""


class ScalingSpec(Section):
    """How many instances, and when more."""

    minimum: Annotated[int, Field(ge=0)] = 1
    """Instances kept while nobody asks; zero needs hosting by components."""
    maximum: Annotated[int, Field(ge=1)] = 5
    """Instances at most."""
    concurrency: Annotated[int, Field(ge=1)] = 32
    """Requests under way on each instance that scaling aims at."""
    out_cooldown_s: Annotated[int, Field(ge=0, le=3600)] = 60
    """Pause after adding instances before adding more."""
    in_cooldown_s: Annotated[int, Field(ge=0, le=3600)] = 300
    """Pause after removing an instance before removing more."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.minimum > self.maximum:
            raise ValueError(f"minimum {self.minimum} is more than maximum {self.maximum}")
        return self


class RolloutSpec(Section):
    """How a new version takes over, and what sends it back."""

    strategy: Literal["all-at-once", "canary", "linear", "rolling"] = "all-at-once"
    """`all-at-once`, `canary` and `linear` bring up a second fleet and shift requests to it: at once, a part
    first, or in equal steps. `rolling` replaces the fleet in batches: no quota for twice the fleet."""
    step_percent: Annotated[int, Field(ge=5, le=50)] = 50
    """Part of the fleet in the canary, a linear step or a rolling batch."""
    wait_s: Annotated[int, Field(ge=0, le=3600)] = 300
    """How long the alarms are watched after each step."""
    bake_s: Annotated[int, Field(ge=0, le=3600)] = 300
    """How long the old fleet is kept after the last step."""
    error_percent: Annotated[float, Field(gt=0, le=100)] = 5.0
    """Failed requests, in percent, that send the new version back."""
    latency_s: Annotated[float, Field(gt=0)] = 10.0
    """Average seconds the model takes that send the new version back."""


class EndpointSpec(Section):
    """The endpoint as it should be; what is there is made to agree with it."""

    hosting: Literal["variant", "component"] = "variant"
    """`variant`: production variants, for A/B by weight, shadows, and shifting requests to a new version.
    `component`: an inference component, for scaling to zero and rolling updates."""
    instance_type: str = "ml.g5.4xlarge"
    """Instance type of SageMaker hosting."""
    host_image: str | None = "al2023-ami-sagemaker-inference-gpu-4-1"
    """Image of GPU hosts, which decides their driver; null on instances without a GPU."""
    image_cuda: Annotated[str, Field(pattern=r"^\d+\.\d+$")] = "13.0"
    """CUDA version inside the inference image; what PyTorch's wheels bring along."""
    weights_gib: Annotated[float, Field(gt=0)] = 3.0
    """Size of the model's weights as they are served, quantised or not."""
    gpus: Annotated[int, Field(ge=1)] = 1
    """GPUs of an instance that the weights are shared out over; more than one only with `engine: vllm`: its
    `tensor_parallel_size` times `pipeline_parallel_size`."""
    startup_s: Annotated[int, Field(ge=60, le=3600)] = 600
    """How long an instance may take to load the model and answer its first health check."""
    variants: Annotated[tuple[VariantSpec, ...], Field(min_length=1, max_length=10)] = (
        VariantSpec(name="main"),
    )
    """The versions behind the endpoint; components have one."""
    scaling: ScalingSpec = ScalingSpec()
    """How many instances, and when more."""
    rollout: RolloutSpec = RolloutSpec()
    """How a new version takes over, and what sends it back."""

    @field_validator("instance_type")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in INSTANCE_TYPES:
            raise ValueError(f"unknown instance type. Known: {', '.join(sorted(INSTANCE_TYPES))}")
        return value

    @model_validator(mode="after")
    def _variants_go_together(self) -> Self:
        names = [variant.name for variant in self.variants]
        shadows = [variant for variant in self.variants if variant.shadow]
        if len(set(names)) < len(names):
            raise ValueError("variants: give each a name of its own")
        if self.hosting == "component" and len(self.variants) > 1:
            raise _refusal(
                "variants: an endpoint of components has one; the gateway splits requests between components",
                "Use hosting: variant to split by weight",
                f"{API}/API_CreateInferenceComponent.html",
            )
        if shadows and (len(shadows) > 1 or len(self.variants) != 2):
            raise _refusal(
                "variants: beside a shadow there is one variant that answers, and no other",
                "Name one of each",
                f"{GUIDE}/shadow-tests-create.html",
            )
        if not any(variant.weight for variant in self.variants if not variant.shadow):
            raise ValueError("variants: give at least one a weight above 0, or no request is answered")
        return self

    @model_validator(mode="after")
    def _hosting_allows_the_scaling(self) -> Self:
        if self.hosting == "variant" and self.scaling.minimum == 0:
            raise _refusal(
                "scaling.minimum: a production variant keeps at least one instance",
                "Use hosting: component to scale to zero",
                f"{GUIDE}/endpoint-auto-scaling-zero-instances.html",
            )
        return self

    @model_validator(mode="after")
    def _hosting_allows_the_rollout(self) -> Self:
        strategy = self.rollout.strategy
        if strategy == "rolling" and len(self.variants) > 1:
            raise _refusal(
                "rollout.strategy: an endpoint of several variants cannot be updated in batches",
                "Use canary, linear or all-at-once, or one variant",
                f"{GUIDE}/deployment-guardrails-exclusions.html",
            )
        if strategy in ("canary", "linear") and self.hosting == "component":
            raise _refusal(
                f"rollout.strategy: a component is updated in batches, and {strategy} shifts requests",
                "Use rolling or all-at-once, or hosting: variant",
                f"{API}/API_InferenceComponentDeploymentConfig.html",
            )
        if strategy == "linear" and self.rollout.step_percent < 10:
            raise _refusal(
                "rollout.step_percent: a linear step is 10 to 50 percent of the fleet",
                "Set it to 10 or more",
                f"{API}/API_TrafficRoutingConfig.html",
            )
        if strategy != "all-at-once" and self.hosting == "variant" and self.scaling.minimum < 2:
            raise _refusal(
                f"rollout.strategy: {strategy} moves at most half of the fleet, and one instance has no half",
                "Set scaling.minimum to 2 or more, or use all-at-once",
                f"{API}/API_TrafficRoutingConfig.html",
            )
        return self

    @model_validator(mode="after")
    def _the_host_runs_the_image(self) -> Self:
        page = f"{API}/API_ProductionVariant.html"
        if not INSTANCE_TYPES[self.instance_type].gpus:
            if self.host_image is not None:
                raise _refusal(
                    f"host_image: {self.host_image} is for GPUs, and {self.instance_type} has none",
                    "Set host_image: null",
                    page,
                )
            return self
        if self.host_image is not None and self.host_image not in HOST_IMAGES:
            raise _refusal("host_image: unknown", f"Known: {', '.join(HOST_IMAGES)}", page)
        runs = HOST_IMAGES[self.host_image] if self.host_image else DEFAULT_HOST_CUDA
        needs = tuple(map(int, self.image_cuda.split(".")))
        if needs > runs:
            enough = [name for name, cuda in HOST_IMAGES.items() if cuda >= needs]
            raise _refusal(
                f"host_image: the driver of {self.host_image or 'the default host'} runs CUDA "
                f"{runs[0]}.{runs[1]} at most, and the inference image needs {self.image_cuda}",
                f"Use {' or '.join(enough)}" if enough else "Build the image on an older CUDA",
                page,
            )
        return self

    @model_validator(mode="after")
    def _the_model_fits(self) -> Self:
        instance = INSTANCE_TYPES[self.instance_type]
        if self.gpus > max(1, instance.gpus):
            raise _refusal(
                f"gpus: {self.gpus} are more than the {instance.gpus} of {self.instance_type}",
                "Choose an instance type that has them",
                f"{API}/API_ProductionVariant.html",
            )
        share = self.weights_gib / self.gpus
        has, needs = instance.model_memory_gib, Footprint(weights_gib=share).needs_gib()
        if needs > has:
            place = f"a GPU of {self.instance_type} ({instance.gpu})" if instance.gpu else self.instance_type
            raise _refusal(
                f"weights_gib: {share:g} GiB of weights and {RUNTIME_GIB} GiB to run them are "
                f"{needs:g} GiB; {place} has {has} GiB",
                "Pack it with `byollm quantize`, or choose a larger instance type",
                f"{GUIDE}/multi-model-support.html",
            )
        return self


def _refusal(what: str, instead: str, page: str) -> ValueError:
    """Say what SageMaker would refuse and why, what to do instead, and where it is documented."""
    return ValueError(f"{what}. {instead} ({page})")
