"""A login in front of the services: people by a page of Cognito, programs by its access tokens."""

from aws_cdk import Aws, Duration
from aws_cdk import aws_cognito as cognito
from aws_cdk import aws_elasticloadbalancingv2 as elb
from aws_cdk import aws_elasticloadbalancingv2_actions as actions

from byollm.settings import AwsSettings
from stacks.accepted import accept
from stacks.base import PlatformStack


class Login:
    """A pool of people whom an administrator invites, and of programs with a secret of their own.

    Args:
        stack: what it is part of.
        domain: the name under which people reach the page.
    """

    def __init__(self, stack: PlatformStack, domain: str, aws: AwsSettings) -> None:
        self._pool = cognito.UserPool(
            stack,
            "People",
            user_pool_name=f"byollm-{stack.environment_name}",
            self_sign_up_enabled=False,
            sign_in_aliases=cognito.SignInAliases(email=True),
            mfa=cognito.Mfa.REQUIRED,
            mfa_second_factor=cognito.MfaSecondFactor(otp=True, sms=False),
            password_policy=cognito.PasswordPolicy(
                min_length=12,
                require_digits=True,
                require_lowercase=True,
                require_symbols=True,
                require_uppercase=True,
            ),
            account_recovery=cognito.AccountRecovery.EMAIL_ONLY,
            deletion_protection=aws.retain,
            removal_policy=stack.removal_policy,
        )
        plan = "Threat protection comes with a plan that is paid by the person; everyone has a second factor."
        accept(self._pool, {"AwsSolutions-COG3": plan, "AwsSolutions-COG8": plan})
        self._domain = self._pool.add_domain(
            "Domain",
            cognito_domain=cognito.CognitoDomainOptions(
                domain_prefix=f"byollm-{stack.environment_name}-{Aws.ACCOUNT_ID}"
            ),
        )
        self._people = self._pool.add_client(
            "Page",
            generate_secret=True,  # kept by Cognito and the load balancer
            prevent_user_existence_errors=True,
            o_auth=cognito.OAuthSettings(
                flows=cognito.OAuthFlows(authorization_code_grant=True),
                scopes=[cognito.OAuthScope.OPENID],
                callback_urls=[f"https://{domain}/oauth2/idpresponse"],
            ),
        )
        ask = cognito.ResourceServerScope(scope_name="ask", scope_description="Ask the model")
        server = self._pool.add_resource_server("Api", identifier="byollm", scopes=[ask])
        self._pool.add_client(
            "Programs",
            generate_secret=True,
            access_token_validity=Duration.hours(1),
            o_auth=cognito.OAuthSettings(
                flows=cognito.OAuthFlows(client_credentials=True),
                scopes=[cognito.OAuthScope.resource_server(server, ask)],
            ),
        )
        self._issuer = f"https://cognito-idp.{stack.region}.amazonaws.com/{self._pool.user_pool_id}"

    def for_people(self, onward: elb.ListenerAction) -> elb.ListenerAction:
        """Send who is not logged in to Cognito's page, and the others `onward`."""
        return actions.AuthenticateCognitoAction(
            user_pool=self._pool,
            user_pool_client=self._people,
            user_pool_domain=self._domain,
            session_timeout=Duration.hours(12),
            next=onward,
        )

    def for_programs(self, onward: elb.ListenerAction) -> elb.ListenerAction:
        """Send requests with a token of the pool as their bearer `onward`, and refuse the others.

        https://docs.aws.amazon.com/elasticloadbalancing/latest/application/listener-verify-jwt.html
        """
        return elb.ListenerAction.authenticate_jwt(
            issuer=self._issuer, jwks_endpoint=f"{self._issuer}/.well-known/jwks.json", next=onward
        )
