"""What people are told of."""

from byollm.aws import Clients, explained
from byollm.lifecycle.deployment import Deployment

LONGEST_SUBJECT, LONGEST_MESSAGE = 100, 10_000


@explained()
def announce(clients: Clients, deployment: Deployment, subject: str, message: str) -> None:
    """Send a message to the environment's topic, where it has one."""
    if deployment.topic_arn:
        clients.client("sns").publish(
            TopicArn=deployment.topic_arn,
            Subject=f"byollm {deployment.environment}: {subject}"[:LONGEST_SUBJECT],
            Message=message[:LONGEST_MESSAGE],
        )
