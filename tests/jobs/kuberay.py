"""What the KubeRay operator takes: the fields of its custom resources, from its API types and reference (version 1.6).

The operator's own schemas come with its repository and its chart alone, from where a test cannot fetch them;
``kubectl apply --dry-run=server`` asks those of a cluster. The pods in its resources are checked against the schemas
that Kubernetes publishes: where a field has a type of Kubernetes, it is a plain dictionary here.

https://docs.ray.io/en/master/cluster/kubernetes/references/api.html
"""

from typing import Annotated, Any, Literal

import kubernetes_validate
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

KUBERNETES = "1.34"
"""The version of Kubernetes whose schemas are asked: one that is supported, and not the newest."""
Kubernetes = dict[str, Any]
Texts = dict[str, str]
Count = Annotated[int, Field(ge=0)]


class Resource(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, alias_generator=to_camel)


class AuthOptions(Resource):
    mode: Literal["disabled", "token"] = "token"
    secret_name: str | None = None
    enable_k8s_token_auth: bool | None = None


class AutoscalerOptions(Resource):
    resources: Kubernetes | None = None
    image: str | None = None
    image_pull_policy: Literal["Always", "Never", "IfNotPresent"] | None = None
    security_context: Kubernetes | None = None
    idle_timeout_seconds: Count | None = None
    upscaling_mode: Literal["Default", "Aggressive", "Conservative"] | None = None
    version: Literal["v1", "v2"] | None = None
    env: list[Kubernetes] | None = None
    env_from: list[Kubernetes] | None = None
    volume_mounts: list[Kubernetes] | None = None
    command: list[str] | None = None
    args: list[str] | None = None


class HeadGroup(Resource):
    template: Kubernetes
    ray_start_params: Texts = {}
    head_service: Kubernetes | None = None
    enable_ingress: bool | None = None
    resources: Texts | None = None
    labels: Texts | None = None
    service_type: str | None = None


class WorkerGroup(Resource):
    group_name: str
    template: Kubernetes
    min_replicas: Count
    max_replicas: Count
    replicas: Count = 0
    ray_start_params: Texts = {}
    idle_timeout_seconds: Count | None = None
    num_of_hosts: Count = 1
    resources: Texts | None = None
    labels: Texts | None = None
    scale_strategy: Kubernetes | None = None
    suspend: bool | None = None

    @model_validator(mode="after")
    def _bounds(self) -> "WorkerGroup":
        if not self.min_replicas <= self.replicas <= self.max_replicas:
            raise ValueError(f"{self.min_replicas} <= {self.replicas} <= {self.max_replicas} does not hold")
        return self


class ClusterSpec(Resource):
    head_group_spec: HeadGroup
    worker_group_specs: list[WorkerGroup] = []
    ray_version: str | None = None
    auth_options: AuthOptions | None = None
    enable_in_tree_autoscaling: bool | None = None
    autoscaler_options: AutoscalerOptions | None = None
    head_service_annotations: Texts | None = None
    gcs_fault_tolerance_options: Kubernetes | None = None
    upgrade_strategy: Kubernetes | None = None
    managed_by: str | None = None
    suspend: bool | None = None


class SubmitterConfig(Resource):
    backoff_limit: Count | None = None


class JobSpec(Resource):
    entrypoint: str | None = None
    ray_cluster_spec: ClusterSpec | None = None
    cluster_selector: Texts | None = None
    backoff_limit: Count = 0
    active_deadline_seconds: Annotated[int, Field(gt=0)] | None = None
    submission_mode: Literal["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"] = "K8sJobMode"
    submitter_config: SubmitterConfig | None = None
    submitter_pod_template: Kubernetes | None = None
    shutdown_after_job_finishes: bool = False
    ttl_seconds_after_finished: Count = 0
    runtime_env_yaml: str | None = Field(None, alias="runtimeEnvYAML")
    job_id: str | None = None
    metadata: Texts | None = None
    deletion_strategy: Kubernetes | None = None
    entrypoint_num_cpus: float | None = None
    entrypoint_num_gpus: float | None = None
    entrypoint_resources: str | None = None
    managed_by: str | None = None
    suspend: bool = False

    @model_validator(mode="after")
    def _ends(self) -> "JobSpec":
        if self.ttl_seconds_after_finished and not self.shutdown_after_job_finishes:
            raise ValueError("ttlSecondsAfterFinished is for clusters that are shut down")
        return self


class ServiceSpec(Resource):
    ray_cluster_config: ClusterSpec
    serve_config_v2: str | None = None
    serve_service: Kubernetes | None = None
    upgrade_strategy: Kubernetes | None = None
    exclude_head_pod_from_serve_svc: bool = False
    ray_cluster_deletion_delay_seconds: Count | None = None
    service_unhealthy_second_threshold: Count | None = None
    deployment_unhealthy_second_threshold: Count | None = None


KINDS = {"RayCluster": ClusterSpec, "RayJob": JobSpec, "RayService": ServiceSpec}


def check_manifest(manifest: Kubernetes) -> None:
    """Raise an error unless the operator would take the manifest, and Kubernetes the pods in it."""
    assert set(manifest) == {"apiVersion", "kind", "metadata", "spec"}
    assert manifest["apiVersion"] == "ray.io/v1"
    spec = KINDS[manifest["kind"]].model_validate(manifest["spec"])
    for template in pod_templates(spec):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}} | template
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)


def pod_templates(spec: ClusterSpec | JobSpec | ServiceSpec) -> list[Kubernetes]:
    """Return the pods of a resource, the one that submits its job and Ray's autoscaler among them."""
    if isinstance(spec, ServiceSpec):
        return pod_templates(spec.ray_cluster_config)
    if isinstance(spec, JobSpec):
        submitter = [spec.submitter_pod_template] if spec.submitter_pod_template else []
        return [*submitter, *(pod_templates(spec.ray_cluster_spec) if spec.ray_cluster_spec else [])]
    templates = [spec.head_group_spec.template, *(group.template for group in spec.worker_group_specs)]
    if spec.autoscaler_options:
        same = {"resources", "image", "image_pull_policy", "security_context", "env", "env_from", "volume_mounts"}
        container = spec.autoscaler_options.model_dump(include=same, exclude_none=True, by_alias=True)
        templates.append({"spec": {"containers": [{"name": "autoscaler", **container}]}})
    return templates
