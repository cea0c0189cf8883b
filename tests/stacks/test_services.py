"""Gateway and page stand behind one load balancer, each with its own rights, and grow with what is asked."""

from typing import Any

import pytest

from byollm.settings import EndpointSpec, load_settings
from tests.stacks.support import Synthesis, resolved, synthesise
from tests.stacks.whole import DIGEST, IMAGES


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Synthesis:
    """Services without a certificate, before an endpoint of variants."""
    update = {"images": IMAGES, "endpoint": EndpointSpec()}
    settings = load_settings("prod").model_copy(update=update)
    return synthesise("prod", tmp_path_factory.mktemp("plain"), settings)


def of(synthesis: Synthesis, type: str, start: str = "") -> Any:
    """The properties of the one resource of a type whose name begins so."""
    found = synthesis.of("services", type).items()
    (properties,) = [properties for name, properties in found if name.startswith(start)]
    return properties


def attributes(resource: Any, kind: str) -> dict[str, Any]:
    return {each["Key"]: each["Value"] for each in resource[kind]}


def container(synthesis: Synthesis, name: str) -> Any:
    (found,) = of(synthesis, "AWS::ECS::TaskDefinition", name)["ContainerDefinitions"]
    return found


def statements(synthesis: Synthesis, start: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = of(synthesis, "AWS::IAM::Policy", start)["PolicyDocument"]["Statement"]
    return found


def test_without_images_there_are_no_services(dev: Synthesis, prod: Synthesis) -> None:
    assert "services" not in dev.templates
    assert "services" not in prod.templates


@pytest.mark.parametrize("name", ["Gateway", "Frontend"])
def test_containers_run_by_digest_unprivileged_and_read_only(whole: Synthesis, name: str) -> None:
    found = container(whole, name)
    assert str(found["Image"]).endswith(f"@{DIGEST}']]}}")
    assert found["ReadonlyRootFilesystem"] is True
    assert found["User"] == "10001:10001"
    assert "Secrets" not in found
    writable = [mount["ContainerPath"] for mount in found.get("MountPoints", []) if not mount["ReadOnly"]]
    assert writable == (["/tmp"] if name == "Frontend" else [])


def test_the_gateway_may_invoke_its_endpoint_and_do_nothing_else(whole: Synthesis, plain: Synthesis) -> None:
    invoke = ["sagemaker:InvokeEndpoint", "sagemaker:InvokeEndpointWithResponseStream"]
    (of_components,) = statements(whole, "GatewayTaskTaskRole")
    here = "arn:aws:sagemaker:ca-central-1:123456789012"
    assert of_components["Action"] == invoke
    assert [resolved(each) for each in of_components["Resource"]] == [
        f"{here}:endpoint/byollm-whole",
        f"{here}:inference-component/byollm-whole-main",
    ]
    (of_variants,) = statements(plain, "GatewayTaskTaskRole")
    assert resolved(of_variants["Resource"]) == f"{here}:endpoint/byollm-prod"


def test_the_gateway_is_told_what_it_may_invoke(whole: Synthesis, plain: Synthesis) -> None:
    def told(synthesis: Synthesis) -> dict[str, str]:
        return {each["Name"]: each["Value"] for each in container(synthesis, "Gateway")["Environment"]}

    assert told(whole)["BYOLLM__GATEWAY__ENDPOINT"] == "byollm-whole"
    assert told(whole)["BYOLLM__GATEWAY__COMPONENT"] == "byollm-whole-main"
    assert told(plain)["BYOLLM__GATEWAY__ENDPOINT"] == "byollm-prod"
    assert "BYOLLM__GATEWAY__COMPONENT" not in told(plain)


def test_the_page_may_do_nothing_in_aws(whole: Synthesis) -> None:
    policies = whole.of("services", "AWS::IAM::Policy")
    assert not [name for name in policies if name.startswith("FrontendTaskTaskRole")]
    assert "ManagedPolicyArns" not in of(whole, "AWS::IAM::Role", "FrontendTaskTaskRole")


def test_the_page_finds_the_gateway_inside_and_streams_last(whole: Synthesis) -> None:
    told = {each["Name"]: each["Value"] for each in container(whole, "Frontend")["Environment"]}
    assert told["BYOLLM__PAGE__API"] == "http://gateway:8000"
    inside = of(whole, "AWS::ECS::Service", "Gateway")["ServiceConnectConfiguration"]
    (service,) = inside["Services"]
    assert service["ClientAliases"] == [{"DnsName": "gateway", "Port": 8000}]
    assert service["Timeout"] == {"IdleTimeoutSeconds": 600, "PerRequestTimeoutSeconds": 0}
    page = of(whole, "AWS::ECS::Service", "Frontend")["ServiceConnectConfiguration"]
    assert page["Namespace"] == inside["Namespace"]


def test_the_api_leads_to_the_gateway_and_all_else_to_the_page(plain: Synthesis) -> None:
    rule = of(plain, "AWS::ElasticLoadBalancingV2::ListenerRule")
    (condition,) = rule["Conditions"]
    assert condition["PathPatternConfig"]["Values"] == ["/v1/*", "/model/info", "/health"]
    assert "GatewayTargets" in str(rule["Actions"])
    (rest,) = of(plain, "AWS::ElasticLoadBalancingV2::Listener")["DefaultActions"]
    assert (rest["Type"], "FrontendTargets" in str(rest)) == ("forward", True)


def test_streams_are_given_time_and_pages_keep_their_task(whole: Synthesis) -> None:
    gateway = attributes(
        of(whole, "AWS::ElasticLoadBalancingV2::TargetGroup", "Gateway"), "TargetGroupAttributes"
    )
    assert int(gateway["deregistration_delay.timeout_seconds"]) >= 480, "as long as the longest stream"
    page = attributes(
        of(whole, "AWS::ElasticLoadBalancingV2::TargetGroup", "Frontend"), "TargetGroupAttributes"
    )
    assert (page["stickiness.enabled"], page["stickiness.type"]) == ("true", "lb_cookie")
    balancer = of(whole, "AWS::ElasticLoadBalancingV2::LoadBalancer")
    assert attributes(balancer, "LoadBalancerAttributes")["idle_timeout.timeout_seconds"] == "600"


def test_the_load_balancer_logs_and_drops_what_is_invalid(whole: Synthesis, plain: Synthesis) -> None:
    for synthesis, kept in ((whole, "false"), (plain, "true")):
        balancer = of(synthesis, "AWS::ElasticLoadBalancingV2::LoadBalancer")
        found = attributes(balancer, "LoadBalancerAttributes")
        assert found["access_logs.s3.enabled"] == "true"
        assert found["routing.http.drop_invalid_header_fields.enabled"] == "true"
        assert found["deletion_protection.enabled"] == kept


def test_tasks_follow_requests_cpu_and_memory(whole: Synthesis) -> None:
    targets = whole.of("services", "AWS::ApplicationAutoScaling::ScalableTarget").values()
    assert [(each["MinCapacity"], each["MaxCapacity"]) for each in targets] == [(1, 10), (1, 10)]
    policies = whole.of("services", "AWS::ApplicationAutoScaling::ScalingPolicy").values()
    aims = sorted(
        (
            each["TargetTrackingScalingPolicyConfiguration"]["PredefinedMetricSpecification"][
                "PredefinedMetricType"
            ],
            each["TargetTrackingScalingPolicyConfiguration"]["TargetValue"],
        )
        for each in policies
    )
    assert aims == sorted(
        2
        * [
            ("ALBRequestCountPerTarget", 600),
            ("ECSServiceAverageCPUUtilization", 70),
            ("ECSServiceAverageMemoryUtilization", 80),
        ]
    )
    for service in whole.of("services", "AWS::ECS::Service").values():
        assert "DesiredCount" not in service, "an update would set back what scaling has chosen"


def test_a_bad_deployment_is_taken_back(whole: Synthesis) -> None:
    for service in whole.of("services", "AWS::ECS::Service").values():
        breaker = service["DeploymentConfiguration"]["DeploymentCircuitBreaker"]
        assert breaker == {"Enable": True, "Rollback": True}
        assert service["NetworkConfiguration"]["AwsvpcConfiguration"]["AssignPublicIp"] == "DISABLED"


def test_with_a_certificate_http_only_leads_to_https(whole: Synthesis) -> None:
    listeners = {
        listener["Port"]: listener
        for listener in whole.of("services", "AWS::ElasticLoadBalancingV2::Listener").values()
    }
    (redirect,) = listeners[80]["DefaultActions"]
    assert redirect["RedirectConfig"] == {"Port": "443", "Protocol": "HTTPS", "StatusCode": "HTTP_301"}
    assert listeners[443]["Certificates"]
    assert "TLS13" in listeners[443]["SslPolicy"]


def test_people_log_in_and_programs_bring_a_token(whole: Synthesis) -> None:
    listeners = whole.of("services", "AWS::ElasticLoadBalancingV2::Listener").values()
    (https,) = [listener for listener in listeners if listener["Port"] == 443]
    assert [action["Type"] for action in https["DefaultActions"]] == ["authenticate-cognito", "forward"]
    rule = of(whole, "AWS::ElasticLoadBalancingV2::ListenerRule")
    assert [action["Type"] for action in rule["Actions"]] == ["jwt-validation", "forward"]
    pool = of(whole, "AWS::Cognito::UserPool")
    assert pool["AdminCreateUserConfig"] == {"AllowAdminCreateUserOnly": True}
    assert pool["MfaConfiguration"] == "ON"
    page = of(whole, "AWS::Cognito::UserPoolClient", "PeoplePage")
    assert page["CallbackURLs"] == ["https://chat.example.org/oauth2/idpresponse"]


def test_only_the_sources_of_the_settings_come_in(whole: Synthesis, plain: Synthesis) -> None:
    def ways(synthesis: Synthesis) -> set[tuple[str, int]]:
        found = synthesis.of("services", "AWS::EC2::SecurityGroupIngress").values()
        return {(each["CidrIp"], each["FromPort"]) for each in found}

    sources = ("192.0.2.0/24", "0.0.0.0/0")
    assert ways(whole) == {(source, port) for source in sources for port in (80, 443)}
    assert ways(plain) == {("0.0.0.0/0", 80)}
    assert plain.of("services", "AWS::EC2::SecurityGroupEgress") == {}


def test_the_firewall_limits_and_lets_long_prompts_and_code_pass(whole: Synthesis) -> None:
    firewall = of(whole, "AWS::WAFv2::WebACL")
    rules = {rule["Name"]: rule for rule in firewall["Rules"]}
    assert rules["RateLimit"]["Statement"]["RateBasedStatement"]["Limit"] == 2000
    assert rules["RateLimit"]["Action"] == {"Block": {}}
    managed = {
        name: rule["Statement"]["ManagedRuleGroupStatement"]
        for name, rule in rules.items()
        if name.startswith("AWS")
    }
    assert len(managed) == 3
    common = managed["AWSManagedRulesCommonRuleSet"]["RuleActionOverrides"]
    assert {"Name": "SizeRestrictions_BODY", "ActionToUse": {"Count": {}}} in common
    counted = [each["Name"] for group in managed.values() for each in group.get("RuleActionOverrides", [])]
    assert all(name.endswith("_BODY") for name in counted), "addresses and headers are still blocked"
    association = of(whole, "AWS::WAFv2::WebACLAssociation")
    assert "Balancer" in str(association["ResourceArn"])


def test_the_address_is_told(whole: Synthesis, plain: Synthesis) -> None:
    address = whole.templates["services"]["Outputs"]["Address"]["Value"]
    assert address == "https://chat.example.org"
    named = plain.templates["services"]["Outputs"]["Address"]["Value"]["Fn::Join"][1]
    assert named[0] == "http://"
    assert "DNSName" in str(named[1])


def test_no_way_in_stands_twice(whole: Synthesis) -> None:
    """EC2 refuses the same rule twice, and the network has those between its groups."""
    for rule in whole.of("services", "AWS::EC2::SecurityGroupIngress").values():
        assert "SourceSecurityGroupId" not in rule
