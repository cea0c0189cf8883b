"""The endpoint as a custom resource of CloudFormation."""
