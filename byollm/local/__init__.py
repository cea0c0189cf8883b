"""An emulated AWS on localhost that really runs what the platform describes.

`byollm up` deploys the platform's CDK app onto it: endpoints, training jobs, functions and services are
processes of this machine. docs/local.md says what is emulated and what is not.
"""
