"""What the containers of a task are told: the definition's variables, secrets, and who the task is."""

import json
import re
import secrets
from typing import Any

from botocore.exceptions import ClientError

from byollm.local.ecs.state import Document
from byollm.local.world import World

PRINCIPAL = "ecs-tasks.amazonaws.com"
CREDENTIALS = "/_byollm/ecs/credentials"


class NotStartedError(Exception):
    """A task cannot be started; says why in ECS's words."""


class Environment:
    """Makes the environments of one task's containers.

    Args:
        task: its id.
        definition: of the task, with what RunTask overrides.
    """

    def __init__(self, world: World, task: str, definition: Document) -> None:
        self._world, self._task, self._definition = world, task, definition
        self.token = secrets.token_urlsafe(32)

    async def check_roles(self) -> None:
        """Look whether the roles are there and trust ECS.

        Raises:
            NotStartedError: one does not.
        """
        for name in ("taskRoleArn", "executionRoleArn"):
            arn = self._definition.get(name)
            if arn is None:
                continue
            try:
                answer = await self._world.call("iam", "get_role", RoleName=arn.rpartition("/")[2])
                trusted = PRINCIPAL in json.dumps(answer["Role"]["AssumeRolePolicyDocument"])
            except ClientError:
                trusted = False
            if not trusted:
                raise NotStartedError(
                    f"ECS was unable to assume the role '{arn}' that was provided for this task. Please "
                    "verify that the role being passed has the proper trust relationship and permissions "
                    "and that your IAM user has permissions to pass this role."
                )

    async def of(self, container: Document) -> dict[str, str]:
        """Return the environment of one container.

        Raises:
            NotStartedError: a secret cannot be had.
        """
        return {
            **self._identity(),
            **{one["name"]: one.get("value", "") for one in container["environment"]},
            **{one["name"]: await self._secret(one["valueFrom"]) for one in container.get("secrets", [])},
        }

    def _identity(self) -> dict[str, str]:
        world = self._world
        identity = {
            "AWS_REGION": world.region,
            "AWS_DEFAULT_REGION": world.region,
            "AWS_ENDPOINT_URL": world.address,
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        if "taskRoleArn" in self._definition:
            # a name would do for the address of AWS; SDKs take credentials over HTTP from 127.0.0.1
            identity["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = (
                f"http://127.0.0.1:{world.port}{CREDENTIALS}/{self._task}"
            )
            identity["AWS_CONTAINER_AUTHORIZATION_TOKEN"] = self.token
        return identity

    async def credentials(self) -> dict[str, str]:
        """Return credentials of the task's role, as an SDK asks for them."""
        role = self._definition["taskRoleArn"]
        answer = await self._world.call("sts", "assume_role", RoleArn=role, RoleSessionName=self._task)
        given = answer["Credentials"]
        return {
            "RoleArn": role,
            "AccessKeyId": given["AccessKeyId"],
            "SecretAccessKey": given["SecretAccessKey"],
            "Token": given["SessionToken"],
            "Expiration": given["Expiration"].strftime("%Y-%m-%dT%H:%M:%SZ"),
        }

    async def _secret(self, source: str) -> str:
        try:
            return await self._read(source)
        except (ClientError, KeyError, ValueError) as error:
            raise NotStartedError(
                "ResourceInitializationError: unable to pull secrets or registry auth: execution resource "
                f"retrieval failed: unable to retrieve secret {source}: {error}"
            ) from None

    async def _read(self, source: str) -> str:
        """Return a parameter by its name or ARN, or a secret by an ARN that may end in a key of its JSON.

        https://docs.aws.amazon.com/AmazonECS/latest/developerguide/secrets-envvar-secrets-manager.html
        """
        manager = re.fullmatch(r"(arn:[\w-]+:secretsmanager:(?:[^:]*:){3}[^:]+)((?::[^:]*)*)", source)
        if manager is None:
            name = source.partition(":parameter")[2] or source
            answer = await self._world.call("ssm", "get_parameter", Name=name, WithDecryption=True)
            return str(answer["Parameter"]["Value"])
        key, stage, version = [*manager[2].split(":")[1:], "", "", ""][:3]
        chosen: dict[str, Any] = {"VersionStage": stage} if stage else {}
        chosen |= {"VersionId": version} if version else {}
        answer = await self._world.call("secretsmanager", "get_secret_value", SecretId=manager[1], **chosen)
        text: str = answer["SecretString"]
        return str(json.loads(text)[key]) if key else text
