"""The web application firewall in front of the load balancer."""

from aws_cdk import aws_wafv2 as waf

from stacks.base import PlatformStack

# What is asked of a model may be any text: a page of HTML, a stack trace, a question about /etc/passwd. The
# rules that look for such things in a body would block honest prompts, and long ones for their length alone;
# they count. Nothing in a body is ever run, stored or shown here, and the gateway bounds its size.
# https://docs.aws.amazon.com/waf/latest/developerguide/aws-managed-rule-groups-list.html
MANAGED = {
    "AWSManagedRulesAmazonIpReputationList": (),
    "AWSManagedRulesCommonRuleSet": (
        "SizeRestrictions_BODY",
        "EC2MetaDataSSRF_BODY",
        "GenericLFI_BODY",
        "GenericRFI_BODY",
        "CrossSiteScripting_BODY",
    ),
    "AWSManagedRulesKnownBadInputsRuleSet": (
        "JavaDeserializationRCE_BODY",
        "Log4JRCE_BODY",
        "ReactJSRCE_BODY",
    ),
}


def add_firewall(stack: PlatformStack, resource_arn: str, rate_limit: int) -> None:
    """Put AWS's managed rules and a limit of requests by address in front of `resource_arn`."""
    web_acl = waf.CfnWebACL(
        stack,
        "Firewall",
        name=f"byollm-{stack.environment_name}",
        scope="REGIONAL",
        default_action=waf.CfnWebACL.DefaultActionProperty(allow={}),
        visibility_config=_visible("Firewall"),
        rules=[
            waf.CfnWebACL.RuleProperty(
                name="RateLimit",
                priority=0,
                action=waf.CfnWebACL.RuleActionProperty(block={}),
                statement=waf.CfnWebACL.StatementProperty(
                    rate_based_statement=waf.CfnWebACL.RateBasedStatementProperty(
                        aggregate_key_type="IP", limit=rate_limit, evaluation_window_sec=300
                    )
                ),
                visibility_config=_visible("RateLimit"),
            ),
            *(
                _managed(name, priority, counted)
                for priority, (name, counted) in enumerate(MANAGED.items(), start=1)
            ),
        ],
    )
    waf.CfnWebACLAssociation(
        stack, "FirewallAssociation", resource_arn=resource_arn, web_acl_arn=web_acl.attr_arn
    )


def _managed(name: str, priority: int, counted: tuple[str, ...]) -> waf.CfnWebACL.RuleProperty:
    """Return the rule that applies one of AWS's groups, with some of its rules only counting."""
    return waf.CfnWebACL.RuleProperty(
        name=name,
        priority=priority,
        override_action=waf.CfnWebACL.OverrideActionProperty(none={}),
        statement=waf.CfnWebACL.StatementProperty(
            managed_rule_group_statement=waf.CfnWebACL.ManagedRuleGroupStatementProperty(
                vendor_name="AWS",
                name=name,
                rule_action_overrides=[
                    waf.CfnWebACL.RuleActionOverrideProperty(
                        name=rule, action_to_use=waf.CfnWebACL.RuleActionProperty(count={})
                    )
                    for rule in counted
                ]
                or None,
            )
        ),
        visibility_config=_visible(name),
    )


def _visible(name: str) -> waf.CfnWebACL.VisibilityConfigProperty:
    return waf.CfnWebACL.VisibilityConfigProperty(
        cloud_watch_metrics_enabled=True, metric_name=name, sampled_requests_enabled=True
    )
