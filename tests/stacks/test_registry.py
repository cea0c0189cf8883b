"""One repository an image; a tag, once pushed, stays what it was."""

from byollm.settings import load_settings
from tests.stacks.support import Synthesis


def test_every_image_has_a_repository(synthesis: Synthesis) -> None:
    names = {name["RepositoryName"] for name in synthesis.of("registry", "AWS::ECR::Repository").values()}
    images = ("inference", "training", "gateway", "frontend")
    assert names == {f"byollm-{synthesis.env}/{image}" for image in images}


def test_images_are_scanned_immutable_encrypted_and_limited_in_number(synthesis: Synthesis) -> None:
    kept = load_settings(synthesis.env).storage.images_kept
    for repository in synthesis.of("registry", "AWS::ECR::Repository").values():
        assert repository["ImageScanningConfiguration"] == {"ScanOnPush": True}
        assert repository["ImageTagMutability"] == "IMMUTABLE"
        assert repository["EncryptionConfiguration"]["EncryptionType"] == "KMS"
        assert f'"countNumber":{kept}' in repository["LifecyclePolicy"]["LifecyclePolicyText"]


def test_only_where_nothing_is_kept_are_images_deleted_with_their_repository(synthesis: Synthesis) -> None:
    for repository in synthesis.of("registry", "AWS::ECR::Repository").values():
        assert repository.get("EmptyOnDelete", False) is (synthesis.env == "dev")
