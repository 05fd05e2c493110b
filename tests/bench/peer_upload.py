"""The peer of uploads as most would write it: FastAPI's UploadFile, and boto3's upload_fileobj in a thread."""

import os
import uuid

import boto3
from fastapi import FastAPI, UploadFile

BUCKET = os.environ["PEER_BUCKET"]
app = FastAPI()
s3 = boto3.client(
    "s3",
    endpoint_url=os.environ["PENSTOCK_S3_ENDPOINT"],
    aws_access_key_id=os.environ["PENSTOCK_S3_ACCESS_KEY"],
    aws_secret_access_key=os.environ["PENSTOCK_S3_SECRET_KEY"],
    region_name="us-east-1",
)


@app.post("/uploadfile/")
def upload(file: UploadFile) -> dict[str, str]:
    """Store a file; a plain function, so FastAPI runs it in its threads."""
    key = f"peer/{uuid.uuid4().hex}/{file.filename}"
    s3.upload_fileobj(file.file, BUCKET, key)
    return {"key": key}
