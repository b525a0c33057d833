/* A driver's libnvidia-ml.so.1 for faults no machine here can produce. FAKE_NVML chooses: ok, mismatch,
 * unloaded, unsupported (GB10), lost (the second GPU), mig. Return codes and layouts written after NVIDIA's NVML API
 * reference (nvmlReturn_t, nvmlMemory_t, nvmlProcessInfo_t). */
#include <stdlib.h>
#include <string.h>

enum { OK = 0, NOT_SUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7, UNLOADED = 9, LOST = 15, MISMATCH = 18 };
typedef struct { unsigned long long total, free, used; } memory;
typedef struct { unsigned pid; unsigned long long used; unsigned gpu, compute; } process;

static int is(const char *mode) { const char *m = getenv("FAKE_NVML"); return m && !strcmp(m, mode); }
static int gpus[2], part;

int nvmlInit_v2(void) { return is("mismatch") ? MISMATCH : is("unloaded") ? UNLOADED : OK; }
int nvmlInitWithFlags(unsigned flags) { return nvmlInit_v2(); }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int code) {
    return code == MISMATCH ? "Driver/library version mismatch" : code == LOST ? "GPU is lost"
         : code == UNLOADED ? "Driver Not Loaded" : "Error";
}
int nvmlSystemGetDriverVersion(char *text, unsigned n) { strncpy(text, "580.95", n); return OK; }
int nvmlSystemGetCudaDriverVersion_v2(int *version) { *version = 13000; return is("lost") ? LOST : OK; }
int nvmlDeviceGetCudaComputeCapability(void *gpu, int *major, int *minor) {
    *major = is("unsupported") ? 12 : 9;
    *minor = is("unsupported") ? 1 : 0;
    return is("lost") ? LOST : OK;
}
int nvmlDeviceGetCount_v2(unsigned *n) { *n = is("unsupported") || is("mig") ? 1 : 2; return OK; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **handle) {
    *handle = &gpus[i];
    return is("lost") && i == 1 ? LOST : OK;
}
int nvmlDeviceGetName(void *gpu, char *text, unsigned n) {
    strncpy(text, gpu == &part ? "NVIDIA H200 MIG 1g.18gb" : is("unsupported") ? "NVIDIA GB10" : "NVIDIA H200", n);
    return OK;
}
int nvmlDeviceGetUUID(void *gpu, char *text, unsigned n) {
    strncpy(text, gpu == &part ? "MIG-1" : gpu == &gpus[0] ? "GPU-0" : "GPU-1", n);
    return OK;
}
int nvmlDeviceGetMemoryInfo(void *gpu, memory *m) {
    if (is("unsupported")) return NOT_SUPPORTED;
    m->total = gpu == &part ? 16ull << 30 : 141ull << 30;
    m->free = m->total - (2ull << 30);
    m->used = 2ull << 30;
    return OK;
}
int nvmlDeviceGetMigMode(void *gpu, unsigned *now, unsigned *pending) { *now = *pending = is("mig"); return OK; }
int nvmlDeviceGetMigDeviceHandleByIndex(void *gpu, unsigned i, void **handle) {
    *handle = &part;
    return i == 1 ? OK : NOT_FOUND;
}
int nvmlDeviceGetComputeRunningProcesses_v3(void *gpu, unsigned *n, process *list) {
    if (gpu != &gpus[0]) { *n = 0; return OK; }
    if (!list || *n < 2) { *n = 2; return TOO_SMALL; }
    list[0] = (process){1, 1ull << 30, ~0u, ~0u};
    list[1] = (process){4194304, ~0ull, ~0u, ~0u}; /* a pid of another container, bytes not available */
    *n = 2;
    return OK;
}
int nvmlDeviceGetGraphicsRunningProcesses_v3(void *gpu, unsigned *n, process *list) { *n = 0; return OK; }
