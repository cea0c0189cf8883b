"""SageMaker: the group of model versions."""

from byollm.local.cloudformation.provider import Provider
from byollm.local.cloudformation.table import Calls

PROVIDERS: dict[str, Provider] = {
    "AWS::SageMaker::ModelPackageGroup": Calls(
        service="sagemaker",
        creates="CreateModelPackageGroup",
        removes="DeleteModelPackageGroup",
        read=lambda _, made: (
            made["ModelPackageGroupArn"],
            {
                "ModelPackageGroupArn": made["ModelPackageGroupArn"],
                "ModelPackageGroupStatus": "Completed",
            },
        ),
        key=lambda id, _: {"ModelPackageGroupName": id.rpartition("/")[2]},
        name="ModelPackageGroupName",
        tags="list",
    ),
}
