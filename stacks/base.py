"""What every stack of the platform shares: its name, its place, its tags and how long its parts live."""

from aws_cdk import App, Environment, RemovalPolicy, Stack, Tags
from aws_cdk import aws_iam as iam

from byollm.settings import AwsSettings


class PlatformStack(Stack):
    """One stack of one environment, named `byollm-<env>-<role>`.

    Args:
        app: the app of the environment.
        env: the environment's name, such as `prod`.
        role: what the stack is for, such as `network`.
        settings: where the stack stands and whether it outlives a mistake.
        description: a sentence for the reader of the CloudFormation console.
        region: another region than that of the settings.
    """

    def __init__(
        self,
        app: App,
        *,
        env: str,
        role: str,
        settings: AwsSettings,
        description: str,
        region: str | None = None,
    ) -> None:
        super().__init__(
            app,
            f"byollm-{env}-{role}",
            env=Environment(account=settings.account, region=region or settings.region),
            description=description,
            termination_protection=settings.retain,
        )
        self.environment_name = env
        # Stateful things are lost with their stack in an environment that can be made again, and in no other.
        self.removal_policy = RemovalPolicy.RETAIN if settings.retain else RemovalPolicy.DESTROY
        # By these `byollm destroy` finds what is left, and the bill tells environments apart.
        Tags.of(self).add("byollm:environment", env)
        Tags.of(self).add("byollm:stack", role)


def on_behalf_of(stack: Stack, service: str) -> iam.ServicePrincipal:
    """Return a service as the one that takes on a role: for this account, and so tricked by no other.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/confused-deputy.html
    """
    return iam.ServicePrincipal(service, conditions={"StringEquals": {"aws:SourceAccount": stack.account}})
