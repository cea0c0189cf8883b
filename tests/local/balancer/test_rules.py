"""Rules are met in the order of their priorities, and do what they say."""

from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.local import patient
from tests.local.balancer.conftest import Balancer


def fixed(body: str) -> list[dict[str, Any]]:
    config = {"StatusCode": "200", "ContentType": "text/plain", "MessageBody": body}
    return [{"Type": "fixed-response", "FixedResponseConfig": config}]


def rule(balancer: Balancer, priority: int, conditions: list[dict[str, Any]], actions: list[Any]) -> str:
    made = balancer.client.create_rule(
        ListenerArn=balancer.listener, Priority=priority, Conditions=conditions, Actions=actions
    )
    arn: str = made["Rules"][0]["RuleArn"]
    return arn


def path(*patterns: str) -> dict[str, Any]:
    return {"Field": "path-pattern", "PathPatternConfig": {"Values": list(patterns)}}


def test_the_first_rule_whose_conditions_all_hold_decides(balancer: Balancer) -> None:
    host = {"Field": "host-header", "HostHeaderConfig": {"Values": ["*.example.com"]}}
    wide = rule(balancer, 20, [path("/rules/*")], fixed("wide"))
    narrow = rule(balancer, 30, [path("/rules/deep*", "/other?"), host], fixed("narrow"))
    named = {"Host": "api.EXAMPLE.com"}
    assert patient.get(f"{balancer.address}/rules/deeper", headers=named).text == "wide"
    pairs = [{"RuleArn": narrow, "Priority": 20}, {"RuleArn": wide, "Priority": 30}]
    balancer.client.set_rule_priorities(RulePriorities=pairs)
    assert patient.get(f"{balancer.address}/rules/deeper", headers=named).text == "narrow"
    assert patient.get(f"{balancer.address}/rules/deeper").text == "wide"
    assert patient.get(f"{balancer.address}/other1", headers=named).text == "narrow"
    assert patient.get(f"{balancer.address}/other12", headers=named).text in "ab"
    shown = balancer.client.describe_rules(ListenerArn=balancer.listener)["Rules"]
    assert [one["Priority"] for one in shown] == ["20", "30", "default"]


def test_methods_headers_queries_and_sources_are_conditions(balancer: Balancer) -> None:
    conditions = [
        path("/conditions"),
        {"Field": "http-request-method", "HttpRequestMethodConfig": {"Values": ["GET"]}},
        {"Field": "http-header", "HttpHeaderConfig": {"HttpHeaderName": "X-Kind", "Values": ["te?t"]}},
        {"Field": "query-string", "QueryStringConfig": {"Values": [{"Key": "v", "Value": "2*"}]}},
        {"Field": "source-ip", "SourceIpConfig": {"Values": ["127.0.0.0/8"]}},
    ]
    rule(balancer, 40, conditions, fixed("all"))
    address = f"{balancer.address}/conditions"
    assert patient.get(address, params={"v": "21"}, headers={"X-Kind": "test"}).text == "all"
    assert patient.get(address, params={"v": "1"}, headers={"X-Kind": "test"}).text != "all"
    assert patient.get(address, params={"v": "21"}).text != "all"


def test_a_redirect_fills_in_what_was_asked(balancer: Balancer) -> None:
    config = {"StatusCode": "HTTP_301", "Path": "/new/#{path}", "Query": "#{query}&more=1"}
    rule(balancer, 50, [path("/old*")], [{"Type": "redirect", "RedirectConfig": config}])
    response = patient.get(f"{balancer.address}/old/page?x=1")
    assert response.status_code == 301
    assert response.headers["location"] == f"{balancer.address}/new/old/page?x=1&more=1"


def test_a_listener_with_a_certificate_speaks_https_and_the_other_leads_there(
    balancer: Balancer,
) -> None:
    arn = "arn:aws:acm:ca-central-1:123456789012:certificate/0"
    login = {"UserPoolArn": "arn", "UserPoolClientId": "id", "UserPoolDomain": "login"}
    balancer.client.create_listener(
        LoadBalancerArn=balancer.arn,
        Protocol="HTTPS",
        Port=443,
        Certificates=[{"CertificateArn": arn}],
        DefaultActions=[
            {"Type": "authenticate-cognito", "Order": 1, "AuthenticateCognitoConfig": login},
            {**fixed("safe")[0], "Order": 2},
        ],
    )
    config = {"StatusCode": "HTTP_301", "Protocol": "HTTPS", "Port": "443"}
    rule(balancer, 60, [path("/secret")], [{"Type": "redirect", "RedirectConfig": config}])
    response = patient.get(f"{balancer.address}/secret", follow_redirects=True, verify=False)
    assert response.text == "safe"
    assert response.url.scheme == "https"


def test_traffic_is_shared_by_weight(balancer: Balancer) -> None:
    silent = balancer.make_group("silent")
    weights = [{"TargetGroupArn": balancer.group, "Weight": 1}, {"TargetGroupArn": silent, "Weight": 0}]
    forward = {"Type": "forward", "ForwardConfig": {"TargetGroups": weights}}
    rule(balancer, 70, [path("/weighed")], [forward])
    assert {patient.get(f"{balancer.address}/weighed").status_code for _ in range(5)} == {200}
    with pytest.raises(ClientError, match="in use"):
        balancer.client.delete_target_group(TargetGroupArn=silent)


def test_what_cannot_be_is_refused(balancer: Balancer) -> None:
    rule(balancer, 80, [path("/taken")], fixed("x"))
    with pytest.raises(ClientError) as taken:
        rule(balancer, 80, [path("/x")], fixed("x"))
    assert taken.value.response["Error"]["Code"] == "PriorityInUse"
    with pytest.raises(ClientError, match="authenticate-cognito"):
        rule(balancer, 81, [path("/x")], [{"Type": "authenticate-cognito"}])
    source = {"Field": "source-ip", "SourceIpConfig": {"Values": ["home"]}}
    with pytest.raises(ClientError, match="does not appear to be an IPv4"):
        rule(balancer, 81, [source], fixed("x"))
    with pytest.raises(ClientError, match="RedirectConfig"):
        rule(balancer, 81, [path("/x")], [{"Type": "redirect", "RedirectConfig": {"StatusCode": "200"}}])
    with pytest.raises(ClientError) as missing:
        rule(balancer, 82, [path("/x")], [{"Type": "forward", "TargetGroupArn": balancer.group + "0"}])
    assert missing.value.response["Error"]["Code"] == "TargetGroupNotFound"
    default = balancer.client.describe_rules(ListenerArn=balancer.listener)["Rules"][-1]
    with pytest.raises(ClientError, match="cannot be modified"):
        balancer.client.delete_rule(RuleArn=default["RuleArn"])
