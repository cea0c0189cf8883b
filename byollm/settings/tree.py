"""The whole tree: one section for each part of the product."""

from typing import Self

from pydantic import model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from byollm.settings.aws import AwsSettings
from byollm.settings.data import DataSettings
from byollm.settings.delivery import DeliverySettings
from byollm.settings.ec2 import Ec2Settings
from byollm.settings.endpoint import EndpointSpec
from byollm.settings.engine import EngineSettings
from byollm.settings.gateway import GatewaySettings
from byollm.settings.images import ImagesSettings
from byollm.settings.jobs import JobsSettings
from byollm.settings.network import NetworkSettings
from byollm.settings.observability import ObservabilitySettings
from byollm.settings.page import PageSettings
from byollm.settings.server import ServerSettings
from byollm.settings.services import ServicesSettings
from byollm.settings.storage import StorageSettings
from byollm.settings.training import FinetuneSettings, PretrainSettings

ENVIRONMENT_PREFIX = "BYOLLM__"


class Settings(BaseSettings):
    """Everything that can be set, by file or by an environment variable such as `BYOLLM__SERVER__PORT`."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        env_prefix=ENVIRONMENT_PREFIX,
        env_nested_delimiter="__",
        env_parse_none_str="null",  # as in YAML
        use_attribute_docstrings=True,
        validate_default=True,
        nested_model_default_partial_update=True,
    )

    data: DataSettings = DataSettings()
    """Corpora and conversations, and what they are turned into."""
    pretrain: PretrainSettings = PretrainSettings()
    """A language model from scratch: its shape and how it is trained."""
    finetune: FinetuneSettings = FinetuneSettings()
    """Teaching a model to answer."""
    engine: EngineSettings = EngineSettings()
    """The inference engine: memory, batching, precision."""
    server: ServerSettings = ServerSettings()
    """The HTTP server in front of the engine."""
    page: PageSettings = PageSettings()
    """The web page."""
    aws: AwsSettings = AwsSettings()
    """What all stacks of one environment on AWS share."""
    network: NetworkSettings = NetworkSettings()
    """The private network on AWS."""
    storage: StorageSettings = StorageSettings()
    """Buckets, tables and image repositories on AWS."""
    jobs: JobsSettings = JobsSettings()
    """Training jobs of SageMaker."""
    endpoint: EndpointSpec = EndpointSpec()
    """The SageMaker endpoint that serves the model."""
    gateway: GatewaySettings = GatewaySettings()
    """The OpenAI API in front of that endpoint."""
    services: ServicesSettings = ServicesSettings()
    """The gateway and the page on Fargate."""
    images: ImagesSettings = ImagesSettings()
    """Which images are deployed."""
    delivery: DeliverySettings = DeliverySettings()
    """The pipeline from a push to production."""
    ec2: Ec2Settings = Ec2Settings()
    """One GPU instance that serves a model without SageMaker."""
    observability: ObservabilitySettings = ObservabilitySettings()
    """Alarms, spending and the record of calls on AWS."""

    @model_validator(mode="after")
    def _gpus_agree(self) -> Self:
        options = self.engine.vllm
        shared = options.get("tensor_parallel_size", 1) * options.get("pipeline_parallel_size", 1)
        if self.endpoint.gpus not in (1, shared):
            raise ValueError(
                f"endpoint.gpus: the weights are to be shared out over {self.endpoint.gpus} GPUs, and "
                f"engine.vllm does so over {shared}: set its tensor_parallel_size (docs/vllm.md)"
            )
        return self

    @model_validator(mode="after")
    def _regions_agree(self) -> Self:
        astray = [zone for zone in self.network.zones if zone[:-1] != self.aws.region]
        if astray:
            raise ValueError(f"network.zones: {', '.join(astray)} is not in aws.region {self.aws.region}")
        certificate = self.services.certificate_arn
        if certificate and certificate.split(":")[3] != self.aws.region:
            raise ValueError(
                f"services.certificate_arn: {certificate} is not in aws.region {self.aws.region}, and a load "
                "balancer takes those of its own region only "
                "(https://docs.aws.amazon.com/elasticloadbalancing/latest/application/https-listener-certificates.html)"
            )
        if self.aws.region in self.storage.model_copies:
            raise ValueError(
                f"storage.model_copies: {self.aws.region} is aws.region itself, where the models are; "
                "name other regions (https://docs.aws.amazon.com/AmazonS3/latest/userguide/replication.html)"
            )
        return self
