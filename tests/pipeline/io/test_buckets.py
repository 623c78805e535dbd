"""Buckets without a server: credentials, errors as one line, and a process that was forked."""

import os
import pickle

import pytest

pytest.importorskip("obstore")

from locloc.pipeline.io.buckets import Bucket, BucketError, Limits, _botocore_session, _s3_credentials

NOWHERE = Limits(read_s=1, attempts=1, deadline_s=5)


@pytest.fixture
def environment(monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "credentials").write_text("[mine]\naws_access_key_id = AKIDMINE\naws_secret_access_key = hunter2\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    return monkeypatch


def test_credentials_may_be_in_a_profile_and_stay_out_of_pickles(environment):
    environment.setenv("AWS_PROFILE", "mine")
    assert _s3_credentials(_botocore_session())["secret_access_key"] == "hunter2"
    bucket = Bucket("s3", "images", NOWHERE)
    with pytest.raises(BucketError, match="^could not connect to the endpoint$"):
        bucket.read("a.jpg")
    assert not any(b"hunter2" in text for text in (repr(bucket.client).encode(), repr(bucket).encode()))
    assert b"hunter2" not in pickle.dumps(Bucket("s3", "images", NOWHERE))


def test_a_failure_is_one_line(environment):
    with pytest.raises(BucketError, match="^Unable to locate credentials$"):
        Bucket("s3", "images", NOWHERE).read("a.jpg")
    environment.setenv("AWS_ENDPOINT_URL", "http://me:hunter2@127.0.0.1:9")
    with pytest.raises(BucketError, match="^AWS_ENDPOINT_URL has a password in it") as caught:
        Bucket("s3", "images", NOWHERE).read("a.jpg")
    assert "hunter2" not in str(caught.value)
    with pytest.raises(BucketError, match="contained empty path segment$") as caught:
        Bucket("gs", "images", NOWHERE).read("a//b.jpg")
    assert caught.value.code == "InvalidKey"


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # tests that it does not wait for ever
def test_a_forked_child_is_told_that_it_cannot_use_a_bucket(environment):
    environment.setenv("AWS_PROFILE", "mine")
    bucket = Bucket("s3", "images", NOWHERE)
    with pytest.raises(BucketError, match="could not connect"):
        bucket.read("a.jpg")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            bucket.read("a.jpg")
        except BucketError as error:
            code = 0 if "start worker processes by forkserver or spawn" in str(error) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
