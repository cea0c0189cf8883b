"""The CDK app: the stacks of one environment, from its settings. `cdk deploy --all -c env=prod`."""

from stacks.platform import add_platform  # before aws_cdk, as `stacks` says

from aws_cdk import App  # isort: skip

from byollm.settings import load_settings

app = App(analytics_reporting=False)
env = app.node.try_get_context("env") or "dev"
add_platform(app, env=env, settings=load_settings(env))
app.synth()
