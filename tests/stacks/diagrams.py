"""The diagrams of docs/architecture.md, in Mermaid, derived from the committed templates.

Each shows one thing in some twenty nodes at most; what the templates say besides is left to them.
"""

import json
import re
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from tests.stacks.support import ROOT
from tests.stacks.templates import Platform, Resource, listed, statements

RELEASE = ROOT / "pipeline" / "release.asl.json"
ENDPOINT = "SageMaker endpoint"


@dataclass
class Graph:
    """A flowchart: nodes by their labels, some of them in groups, and labelled arrows between them."""

    direction: str = "LR"
    groups: dict[str, str] = field(default_factory=dict)
    """The group of each node, by its label; empty for none."""
    arrows: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def node(self, label: str, group: str = "") -> str:
        """Add a node, once for each label, and return the label."""
        self.groups[label] = self.groups.get(label) or group
        return label

    def arrow(self, start: str, end: str, label: str = "") -> None:
        """Add an arrow between two nodes, or a line to the label of the one that is there."""
        labels = self.arrows.setdefault((self.node(start), self.node(end)), [])
        if label and label not in labels:
            labels.append(label)

    def __str__(self) -> str:
        ids = {label: f"n{number}" for number, label in enumerate(self.groups)}
        lines = [f"flowchart {self.direction}"]
        for number, group in enumerate(dict.fromkeys(self.groups.values())):
            members = [f'{ids[label]}["{label}"]' for label in ids if self.groups[label] == group]
            if group:
                lines += [
                    f'    subgraph g{number}["{group}"]',
                    *(f"        {each}" for each in members),
                    "    end",
                ]
            else:
                lines += [f"    {each}" for each in members]
        for (start, end), labels in self.arrows.items():
            label = f'|"{", ".join(labels)}"|' if labels else ""
            lines.append(f"    {ids[start]} -->{label} {ids[end]}")
        return "\n".join(lines)


def stacks(platform: Platform) -> Graph:
    """Which stack takes something from which; what follows from other arrows is left out."""
    graph = Graph("BT")
    uses = {stack: platform.uses(stack) for stack in platform.stacks}

    def all_below(stack: str) -> set[str]:
        return uses[stack].union(*(all_below(below) for below in uses[stack]))

    for stack, below in uses.items():
        graph.node(stack)
        for other in sorted(below - set().union(*(all_below(each) for each in below))):
            graph.arrow(stack, other)
    return graph


def flows(platform: Platform) -> Graph:
    """Who may open a connection to whom, and on which port: the rules of the security groups."""
    graph = Graph()
    groups = list(platform.of("AWS::EC2::SecurityGroup"))
    for group in groups:
        graph.node(
            _described(group), "public subnets" if group.name == "LoadBalancerGroup" else "private subnets"
        )
    for rule in platform.of("AWS::EC2::SecurityGroupIngress"):
        (to,) = platform.referred(rule, rule.properties["GroupId"])
        source = platform.referred(rule, rule.properties.get("SourceSecurityGroupId"))
        start = _described(source[0]) if source else "services.sources"
        graph.arrow(start, _described(to), str(rule.properties["FromPort"]))
    nats = len(list(platform.of("AWS::EC2::NatGateway")))
    out = graph.node(f"{nats} NAT gateways", "public subnets")
    for group in groups:
        for rule in group.properties.get("SecurityGroupEgress", []):
            if rule["CidrIp"] == "0.0.0.0/0":
                graph.arrow(_described(group), out, str(rule["FromPort"]))
    graph.arrow(out, "internet")
    for endpoint in platform.of("AWS::EC2::VPCEndpoint"):
        kind = endpoint.properties["VpcEndpointType"].lower()
        start = (
            _described(platform.referred(endpoint, endpoint.properties["SecurityGroupIds"])[0])
            if kind == "interface"
            else "gateway endpoints"
        )
        graph.arrow(start, "AWS services", endpoint.name.removeprefix("Vpc"))
    graph.node("gateway endpoints", "all subnets")
    return graph


def _described(group: Resource) -> str:
    return str(group.properties["GroupDescription"])


def question(platform: Platform) -> Graph:
    """What a question goes through, from a browser or a program to the model."""
    graph = Graph("TB")
    for link in platform.of("AWS::WAFv2::WebACLAssociation"):
        (firewall,) = platform.referred(link, link.properties["WebACLArn"])
        rules = [rule["Name"].removeprefix("AWSManagedRules") for rule in firewall.properties["Rules"]]
        graph.arrow("browser or program", "<br>".join(["firewall", *rules]))
        graph.arrow("<br>".join(["firewall", *rules]), "load balancer")
    for listener in platform.of("AWS::ElasticLoadBalancingV2::Listener"):
        name = f"listener {listener.properties['Port']}"
        graph.arrow("load balancer", name)
        _follow(graph, platform, name, listener, listener.properties["DefaultActions"], "all else")
    for rule in platform.of("AWS::ElasticLoadBalancingV2::ListenerRule"):
        (listener,) = platform.referred(rule, rule.properties["ListenerArn"])
        paths = ", ".join(rule.properties["Conditions"][0]["PathPatternConfig"]["Values"])
        _follow(
            graph,
            platform,
            f"listener {listener.properties['Port']}",
            rule,
            rule.properties["Actions"],
            paths,
        )
    for service in platform.of("AWS::ECS::Service"):
        (task,) = platform.referred(service, service.properties["TaskDefinition"])
        container = task.properties["ContainerDefinitions"][0]
        for variable in container.get("Environment", []):
            asked = re.match(r"http://(\w+):", variable["Value"])
            if asked:
                graph.arrow(container["Name"], asked[1], "Service Connect")
        for role in platform.referred(task, task.properties["TaskRoleArn"]):
            if _invokes(platform, role):
                graph.arrow(container["Name"], ENDPOINT, "InvokeEndpoint")
    (execution,) = (
        role for role in platform.of("AWS::IAM::Role", stack="inference") if role.name == "ExecutionRole"
    )
    for statement in statements(platform, execution):
        for used in platform.referred(execution, statement["Resource"]):
            if used.type in ("AWS::S3::Bucket", "AWS::ECR::Repository"):
                graph.arrow(ENDPOINT, _store(used), "read at the start")
    return graph


def _follow(
    graph: Graph, platform: Platform, start: str, at: Resource, todo: list[dict[str, Any]], label: str
) -> None:
    """Draw what a listener does with a request: who asks first, and where it goes then."""
    for action in todo:
        kind = action["Type"]
        if kind == "forward":
            (targets,) = platform.referred(at, action["TargetGroupArn"])
            for service in platform.of("AWS::ECS::Service"):
                if targets in platform.referred(service, service.properties["LoadBalancers"]):
                    graph.arrow(start, service.properties["ServiceName"], label)
        elif kind == "redirect":
            graph.arrow(start, f"listener {action['RedirectConfig']['Port']}", "redirect")
        else:
            asked = {"authenticate-cognito": "Cognito: login", "jwt-validation": "Cognito: token"}[kind]
            graph.arrow(start, asked, label)
            start, label = asked, ""


def release(_: Platform) -> Graph:
    """The states of a release, from `pipeline/release.asl.json`."""
    graph = Graph("TB")
    definition = json.loads(RELEASE.read_text())
    for name, state in definition["States"].items():
        graph.node(name)
        if state["Type"] == "Choice":
            for choice in state["Choices"]:
                graph.arrow(name, choice["Next"], choice["Variable"].rpartition(".")[2])
            graph.arrow(name, state["Default"], "else")
        if "Next" in state:
            graph.arrow(name, state["Next"])
        for catch in state.get("Catch", []):
            if catch["Next"] != state.get("Next"):
                graph.arrow(name, catch["Next"], "fails")
    return graph


def around(platform: Platform) -> Graph:
    """Who changes the endpoint, who calls whom for it, and where people hear of it."""
    graph = Graph()
    machine = "state machine release"
    topics = {topic: f"topic {topic.name.lower()}" for topic in platform.of("AWS::SNS::Topic")}
    functions = {
        role: function
        for function in platform.of("AWS::Lambda::Function")
        for role in platform.referred(function, function.properties["Role"])
    }
    for role, function in functions.items():
        name = _function(function)
        graph.node(name, "functions")
        changes = role.properties.get("ManagedPolicyArns", [])
        if any(policy.name == "Reconciler" for policy in platform.referred(role, changes)):
            graph.arrow(name, ENDPOINT, "reconciles")
        if _invokes(platform, role):
            graph.arrow(name, ENDPOINT, "asks")
        for statement in statements(platform, role):
            if "sns:Publish" in statement["Action"]:
                for topic in platform.referred(role, statement["Resource"]):
                    graph.arrow(name, topics[topic])
            if {"sagemaker:CreateModelPackage", "sagemaker:UpdateModelPackage"} & {
                *listed(statement["Action"])
            }:
                graph.arrow(name, "model versions")
    for each in platform.of("AWS::StepFunctions::StateMachine"):
        for called in platform.referred(each, each.properties["DefinitionSubstitutions"]):
            graph.arrow(machine, topics.get(called) or _function(called))
    for each in platform.of("Custom::Endpoint"):
        for called in platform.referred(each, each.properties["ServiceToken"]):
            graph.arrow("CloudFormation", _function(called), "stack changes, goes")
    for each in platform.of("AWS::SNS::Subscription"):
        for called in platform.referred(each, each.properties["Endpoint"]):
            if called in functions.values():
                (topic,) = platform.referred(each, each.properties["TopicArn"])
                graph.arrow(
                    topics[topic],
                    _function(called),
                    "guard alarms" if "FilterPolicy" in each.properties else "",
                )
    for each in platform.of("AWS::Events::Rule"):
        for target in platform.referred(each, [target["Arn"] for target in each.properties["Targets"]]):
            graph.arrow("EventBridge", topics[target], _words(each.name))
    for each in platform.of("AWS::Budgets::Budget"):
        for told in platform.referred(each, each.properties):
            graph.arrow("budget", topics[told])
    for each in platform.of("AWS::CloudWatch::Alarm"):
        for told in platform.referred(each, each.properties.get("AlarmActions")):
            graph.arrow("CloudWatch alarms", topics[told])
    return graph


def pipeline(platform: Platform) -> Graph:
    """The stages of the pipeline, with the actions of each in their order."""
    graph = Graph()
    (whole,) = platform.of("AWS::CodePipeline::Pipeline")
    stages = []
    for stage in whole.properties["Stages"]:
        actions = sorted(stage["Actions"], key=lambda action: int(action.get("RunOrder", 1)))
        stages.append(
            "<br>".join([f"<b>{stage['Name']}</b>", *(_words(action["Name"]) for action in actions)])
        )
    for before, after in pairwise(stages):
        graph.arrow(before, after)
    return graph


def stored(platform: Platform) -> Graph:
    """Which role reads and writes which bucket and which images."""
    graph = Graph()
    for role in platform.of("AWS::IAM::Role"):
        for statement in statements(platform, role):
            allowed = listed(statement["Action"])
            writes = any(re.search(r":(Put|Replicate|UploadLayer)", action) for action in allowed)
            reads = any(
                re.search(r":(GetObject|BatchGetImage|GetObjectVersion)", action) for action in allowed
            )
            for store in platform.referred(role, statement["Resource"]):
                if store.type in ("AWS::S3::Bucket", "AWS::ECR::Repository"):
                    if writes:
                        graph.arrow(_who(role), _store(store))
                    if reads and not writes:
                        graph.arrow(_store(store), _who(role))
    return graph


def _invokes(platform: Platform, role: Resource) -> bool:
    allowed = [action for statement in statements(platform, role) for action in listed(statement["Action"])]
    return any(action.startswith("sagemaker:Invoke") for action in allowed)


def _who(role: Resource) -> str:
    """Name a role for people; the pipeline's many are one."""
    if role.stack == "delivery":
        return "pipeline"
    name = re.sub(r"(TaskExecution)?Role$", "", role.name)
    return f"{role.stack}: {_words(name)}" if name else role.stack


def _store(store: Resource) -> str:
    return f"{'bucket' if store.type == 'AWS::S3::Bucket' else 'image'} {store.name.lower()}"


def _function(function: Resource) -> str:
    return str(function.properties["FunctionName"]).split("-")[-1]


def _words(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
