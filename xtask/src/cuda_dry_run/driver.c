// A stand-in for NVIDIA's driver (libcuda) that compiles and counts, and computes nothing, for `cargo xtask cuda-dry-run`.
//
// It describes a GPU of the requested architecture, reserves memory without using it, checks each kernel with `ptxas`,
// refuses launches that the GPU would refuse, and writes every call that matters to a log. Copies of more than a few
// kilobytes are dropped, so values read back are zero. It is also the NVRTC that the program loads: each call goes to
// NVIDIA's library, and sources that do not compile are kept.
//
// The environment, set by xtask alone:
//   KINDLING_DRY_RUN_SM      the compute capability, such as 90
//   KINDLING_DRY_RUN_LOG     the folder of the log and of the kernels
//   KINDLING_DRY_RUN_NVRTC   the path of NVIDIA's libnvrtc
//   KINDLING_DRY_RUN_PTXAS   the path of ptxas
//
// The lines of the log are parsed by `log.rs`:
//   kernel ID PROGRAM NAME           a kernel of a program was loaded
//   failed PROGRAM STAGE             nvrtc or ptxas refused a program
//   refused ID REASON                a launch that the GPU would refuse
//   shape N ID GRID BLOCK SHARED INFO PARAMETERS     a launch with new arguments; the numbers in hexadecimal
//   launch N                         a launch of that shape
//   upload BYTES, download BYTES, copy BYTES, sync, live BYTES
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

typedef int Result;
typedef unsigned long long Pointer;

enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_PTX = 218, NOT_FOUND = 500, NOT_SUPPORTED = 801 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

// ---- The device ----

typedef struct {
    int sm;
    const char *name;
    int multiprocessors;
    int shared_per_block, shared_per_multiprocessor;
    size_t memory;
} Device;

static const Device devices[] = {
    {80, "NVIDIA A100-SXM4-80GB", 108, 166912, 167936, 80ul << 30},
    {90, "NVIDIA H100 80GB HBM3", 132, 232448, 233472, 80ul << 30},
    {100, "NVIDIA B200", 148, 232448, 233472, 180ul << 30},
};

static const char *setting(const char *name) {
    const char *value = getenv(name);
    if (!value) {
        fprintf(stderr, "%s is not set: this stand-in for libcuda is for `cargo xtask cuda-dry-run` alone\n", name);
        abort();
    }
    return value;
}

static const Device *device(void) {
    int sm = atoi(setting("KINDLING_DRY_RUN_SM"));
    for (size_t i = 0; i < sizeof devices / sizeof *devices; i++)
        if (devices[i].sm == sm) return &devices[i];
    fprintf(stderr, "no description of sm_%d\n", sm);
    abort();
}

// ---- The log ----

static FILE *output(void) {
    static FILE *file;
    if (!file) {
        char path[4096];
        snprintf(path, sizeof path, "%s/events.log", setting("KINDLING_DRY_RUN_LOG"));
        file = fopen(path, "w");
        if (!file) { perror(path); abort(); }
    }
    return file;
}

static void record(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    pthread_mutex_lock(&lock);
    vfprintf(output(), format, arguments);
    fputc('\n', output());
    fflush(output());
    pthread_mutex_unlock(&lock);
    va_end(arguments);
}

static void path_of(char *path, size_t size, long program, const char *extension) {
    snprintf(path, size, "%s/%05ld.%s", setting("KINDLING_DRY_RUN_LOG"), program, extension);
}

static void keep(long program, const char *extension, const char *text) {
    char path[4096];
    path_of(path, sizeof path, program, extension);
    FILE *file = fopen(path, "w");
    if (!file) { perror(path); abort(); }
    fputs(text, file);
    fclose(file);
}

static uint64_t hash(const char *text) {
    uint64_t value = 0xcbf29ce484222325u;
    for (; *text; text++) value = (value ^ (unsigned char)*text) * 0x100000001b3u;
    return value;
}

// ---- NVRTC: NVIDIA's, with the sources kept ----

typedef struct { void *handle; long id; char *source; } Program;

static void *nvrtc(const char *name) {
    static void *library;
    if (!library) library = dlopen(setting("KINDLING_DRY_RUN_NVRTC"), RTLD_NOW | RTLD_LOCAL);
    void *function = library ? dlsym(library, name) : NULL;
    if (!function) { fprintf(stderr, "%s\n", dlerror()); abort(); }
    return function;
}
#define NVRTC(name, type) ((Result(*) type)nvrtc(#name))

enum { MAX_PROGRAMS = 1 << 16 };
static uint64_t ptx_hashes[MAX_PROGRAMS]; // By program.
static char has_metadata[MAX_PROGRAMS];     // Whether the kernel takes CubeCL's shapes and strides.
static long n_programs;

Result nvrtcVersion(int *major, int *minor) { return NVRTC(nvrtcVersion, (int *, int *))(major, minor); }

const char *nvrtcGetErrorString(Result code) {
    return ((const char *(*)(Result))nvrtc("nvrtcGetErrorString"))(code);
}

Result nvrtcCreateProgram(Program **out, const char *source, const char *name, int n, const char *const *headers,
                          const char *const *names) {
    Program *program = malloc(sizeof *program);
    program->id = __sync_fetch_and_add(&n_programs, 1);
    if (program->id >= MAX_PROGRAMS) { fprintf(stderr, "too many kernels\n"); abort(); }
    program->source = strdup(source);
    has_metadata[program->id] = strstr(source, "dynamic_meta") != NULL;
    *out = program;
    return NVRTC(nvrtcCreateProgram, (void **, const char *, const char *, int, const char *const *, const char *const *))(
        &program->handle, source, name, n, headers, names);
}

Result nvrtcGetProgramLogSize(Program *program, size_t *size) {
    return NVRTC(nvrtcGetProgramLogSize, (void *, size_t *))(program->handle, size);
}

Result nvrtcGetProgramLog(Program *program, char *text) {
    return NVRTC(nvrtcGetProgramLog, (void *, char *))(program->handle, text);
}

Result nvrtcCompileProgram(Program *program, int n, const char *const *options) {
    keep(program->id, "cu", program->source);
    Result code = NVRTC(nvrtcCompileProgram, (void *, int, const char *const *))(program->handle, n, options);
    if (code != SUCCESS) {
        size_t size = 0;
        nvrtcGetProgramLogSize(program, &size);
        char *text = calloc(size + 1, 1);
        nvrtcGetProgramLog(program, text);
        keep(program->id, "nvrtc", text);
        free(text);
        record("failed %ld nvrtc", program->id);
    }
    return code;
}

Result nvrtcGetPTXSize(Program *program, size_t *size) {
    return NVRTC(nvrtcGetPTXSize, (void *, size_t *))(program->handle, size);
}

Result nvrtcGetPTX(Program *program, char *text) {
    Result code = NVRTC(nvrtcGetPTX, (void *, char *))(program->handle, text);
    if (code == SUCCESS) ptx_hashes[program->id] = hash(text);
    return code;
}

Result nvrtcDestroyProgram(Program **program) {
    Result code = NVRTC(nvrtcDestroyProgram, (void **))(&(*program)->handle);
    free((*program)->source);
    free(*program);
    *program = NULL;
    return code;
}

// ---- Kernels ----

typedef struct { long program; char *ptx; int has_tensor_cores; } Module;

typedef struct {
    long id;
    char name[256];
    int has_tensor_cores, has_metadata;
    int n_parameters;
    int sizes[64]; // The bytes of each structure among the parameters, and 0 for pointers.
    int shared_limit;
} Kernel;

/// Whether ptxas accepts the program; its output is kept.
static int assembles(long program, const char *ptx) {
    char source[4096], messages[4096], target[64] = "";
    const char *line = strstr(ptx, ".target ");
    if (line) sscanf(line, ".target %63[^, \n]", target);
    path_of(source, sizeof source, program, "ptx");
    path_of(messages, sizeof messages, program, "ptxas");
    keep(program, "ptx", ptx);
    const char *ptxas = setting("KINDLING_DRY_RUN_PTXAS");
    char *arguments[] = {(char *)ptxas, "--verbose", "--gpu-name", target, source, "--output-file", "/dev/null", NULL};
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 2, messages, 01 | 0100 | 01000, 0644); // Write, create, truncate.
    posix_spawn_file_actions_adddup2(&actions, 2, 1);
    pid_t child;
    char *no_environment[] = {NULL};
    int status = posix_spawn(&child, ptxas, &actions, NULL, arguments, no_environment);
    posix_spawn_file_actions_destroy(&actions);
    if (status != 0) { fprintf(stderr, "cannot run %s: %s\n", ptxas, strerror(status)); abort(); }
    waitpid(child, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

Result cuModuleLoadData(Module **out, const char *ptx) {
    long program = -1;
    uint64_t wanted = hash(ptx);
    for (long i = n_programs - 1; i >= 0 && program < 0; i--)
        if (ptx_hashes[i] == wanted) program = i;
    if (program < 0) { fprintf(stderr, "a module was not compiled in this process; the cache of kernels must be off\n"); abort(); }
    if (!assembles(program, ptx)) {
        record("failed %ld ptxas", program);
        return INVALID_PTX;
    }
    Module *module = malloc(sizeof *module);
    *module = (Module){program, strdup(ptx), strstr(ptx, "mma") != NULL || strstr(ptx, "tcgen05") != NULL};
    *out = module;
    return SUCCESS;
}

Result cuModuleUnload(Module *module) { return SUCCESS; }

/// Parses the parameters of the entry point, such as `.param .align 8 .b8 kernel_param_2[24]`.
static int parse_parameters(Kernel *kernel, const char *ptx) {
    char entry[300];
    snprintf(entry, sizeof entry, ".entry %s(", kernel->name);
    const char *at = strstr(ptx, entry);
    if (!at) return 0;
    const char *end = strchr(at + strlen(entry), ')');
    kernel->n_parameters = 0;
    for (at = strstr(at, ".param"); at && at < end; at = strstr(at + 1, ".param")) {
        if (kernel->n_parameters == 64) { fprintf(stderr, "%s has too many parameters\n", kernel->name); abort(); }
        const char *comma = at + strcspn(at, ",)\n");
        const char *bracket = memchr(at, '[', comma - at);
        kernel->sizes[kernel->n_parameters++] = bracket ? atoi(bracket + 1) : 0;
    }
    return 1;
}

Result cuModuleGetFunction(Kernel **out, Module *module, const char *name) {
    static long n_kernels;
    Kernel *kernel = calloc(1, sizeof *kernel);
    snprintf(kernel->name, sizeof kernel->name, "%s", name);
    if (!parse_parameters(kernel, module->ptx)) return NOT_FOUND;
    kernel->id = __sync_fetch_and_add(&n_kernels, 1);
    kernel->has_tensor_cores = module->has_tensor_cores;
    kernel->has_metadata = has_metadata[module->program];
    kernel->shared_limit = 49152;
    record("kernel %ld %ld %s", kernel->id, module->program, name);
    *out = kernel;
    return SUCCESS;
}

Result cuFuncSetAttribute(Kernel *kernel, int attribute, int value) {
    if (attribute != 8) return SUCCESS; // The maximum of dynamic shared memory.
    if (value > device()->shared_per_block) {
        record("refused %ld shared memory of %d bytes", kernel->id, value);
        return INVALID_VALUE;
    }
    kernel->shared_limit = value;
    return SUCCESS;
}

Result cuFuncGetAttribute(int *value, int attribute, Kernel *kernel) { *value = 0; return SUCCESS; }

// ---- Launches, on a clock of their own ----

static uint64_t clock_ns;

// CubeCL measures the speed of the device before it tunes, by kernels that repeat an operation until the host's clock
// has advanced enough. They take time in proportion to their repetitions, which is the last scalar of their arguments.
static void spend_time(const Kernel *kernel, const void *info) {
    if (!strstr(kernel->name, "throughput")) return;
    const uint32_t *scalars = info;
    uint64_t us = 10ull * scalars[strncmp(kernel->name, "memory", 6) == 0];
    usleep(us < 25000 ? us : 25000);
}

// Tuning compares durations, which are not known here. A launch takes the same time whatever it does, but products
// without tensor cores take ten times as long.
static uint64_t duration_ns(const Kernel *kernel) {
    if (strstr(kernel->name, "launch_overhead")) return 20000;
    return strstr(kernel->name, "matmul") && !kernel->has_tensor_cores ? 25000 : 2500;
}

typedef struct { uint64_t hash; long n; } Slot;
enum { MAX_SHAPES = 1 << 22 };
static Slot *shapes;
static long n_shapes;

/// The number of this launch's arguments; logs them if they are new.
static long shape_of(const char *text) {
    if (!shapes) shapes = calloc(MAX_SHAPES, sizeof *shapes);
    uint64_t key = hash(text) | 1;
    uint64_t at = key % MAX_SHAPES;
    while (shapes[at].hash && shapes[at].hash != key) at = (at + 1) % MAX_SHAPES;
    if (!shapes[at].hash) {
        if (n_shapes == MAX_SHAPES / 2) { fprintf(stderr, "too many launches with different arguments\n"); abort(); }
        shapes[at] = (Slot){key, n_shapes++};
        record("shape %ld %s", shapes[at].n, text);
    }
    return shapes[at].n;
}

static char *hexadecimal(char *to, const char *end, const unsigned char *bytes, size_t n) {
    for (size_t i = 0; i < n && to + 3 < end; i++) to += sprintf(to, "%02x", bytes[i]);
    return to;
}

static size_t bytes_after(Pointer address);

static Result launch(Kernel *kernel, const unsigned *grid, const unsigned *block, unsigned shared, void **arguments) {
    unsigned threads = block[0] * block[1] * block[2];
    if (!grid[0] || !grid[1] || !grid[2] || grid[1] > 65535 || grid[2] > 65535 || grid[0] > 2147483647) {
        record("refused %ld a grid of %u x %u x %u", kernel->id, grid[0], grid[1], grid[2]);
        return INVALID_VALUE;
    }
    if (!threads || threads > 1024 || block[2] > 64 || (int)shared > kernel->shared_limit) {
        record("refused %ld a block of %u x %u x %u with %u bytes", kernel->id, block[0], block[1], block[2], shared);
        return INVALID_VALUE;
    }
    static char text[1 << 16];
    static pthread_mutex_t launching = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&launching);
    char *end = text + sizeof text;
    char *to = text + sprintf(text, "%ld %u,%u,%u %u,%u,%u %u", kernel->id, grid[0], grid[1], grid[2], block[0], block[1],
                              block[2], shared);
    const void *info = NULL;
    for (int i = 0; i < kernel->n_parameters; i++) {
        *to++ = ' ';
        if (kernel->sizes[i]) { // A structure: CubeCL's scalars and lengths, or a tensor map.
            *to++ = kernel->sizes[i] == 128 && i + 1 < kernel->n_parameters ? 't' : 'i';
            to = hexadecimal(to, end, arguments[i], kernel->sizes[i]);
            if (i + 1 == kernel->n_parameters) info = arguments[i];
        } else {
            // The last pointer may be to shapes and strides, which are short and were copied. The others are to memory that
            // was never written.
            Pointer address = *(Pointer *)arguments[i];
            *to++ = 'p';
            if (kernel->has_metadata && i + 2 == kernel->n_parameters) {
                *to++ = '=';
                to = hexadecimal(to, end, (const unsigned char *)address, bytes_after(address));
            }
        }
    }
    *to = 0;
    record("launch %ld", shape_of(text));
    pthread_mutex_unlock(&launching);
    __sync_fetch_and_add(&clock_ns, duration_ns(kernel));
    if (info) spend_time(kernel, info);
    return SUCCESS;
}

Result cuLaunchKernel(Kernel *kernel, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                      unsigned shared, void *stream, void **arguments, void **extra) {
    return launch(kernel, (unsigned[]){gx, gy, gz}, (unsigned[]){bx, by, bz}, shared, arguments);
}

typedef struct { unsigned grid[3], block[3], shared; } LaunchConfig;

Result cuLaunchKernelEx(const LaunchConfig *config, Kernel *kernel, void **arguments, void **extra) {
    return launch(kernel, config->grid, config->block, config->shared, arguments);
}

/// Our own content of the opaque 128 bytes: the element type, the rank, and the sizes.
typedef struct { uint64_t type, rank, sizes[5]; } TensorMap;

Result cuTensorMapEncodeTiled(TensorMap *map, int type, unsigned rank, void *address, const uint64_t *sizes,
                              const uint64_t *strides, const unsigned *box, const unsigned *steps, int interleave,
                              int swizzle, int promotion, int fill) {
    if ((uintptr_t)address % 16 || rank < 1 || rank > 5) return INVALID_VALUE;
    for (unsigned i = 0; i < rank; i++)
        if (!sizes[i] || !box[i] || box[i] > 256 || (i > 0 && strides[i - 1] % 16)) return INVALID_VALUE;
    memset(map, 0, 128);
    map->type = type;
    map->rank = rank;
    memcpy(map->sizes, sizes, rank * sizeof *sizes);
    return SUCCESS;
}

// ---- Memory: reserved, and never used but for short copies ----

typedef struct { Pointer start; size_t size; } Block;
static Block *blocks;
static size_t n_blocks, max_blocks, live;

/// The bytes from an address to the end of its memory, at most 512.
static size_t bytes_after(Pointer address) {
    pthread_mutex_lock(&lock);
    size_t bytes = 0;
    for (size_t i = 0; i < n_blocks && !bytes; i++)
        if (address >= blocks[i].start && address < blocks[i].start + blocks[i].size)
            bytes = blocks[i].start + blocks[i].size - address;
    pthread_mutex_unlock(&lock);
    return bytes < 512 ? bytes : 512;
}

static Result reserve(Pointer *out, size_t size) {
    if (!size) return INVALID_VALUE;
    pthread_mutex_lock(&lock);
    int fits = live + size <= device()->memory;
    pthread_mutex_unlock(&lock);
    if (!fits) { record("refused -1 memory of %zu bytes", size); return OUT_OF_MEMORY; }
    size_t rounded = (size + 4095) & ~4095ul;
    void *memory = mmap(NULL, rounded, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return OUT_OF_MEMORY;
    pthread_mutex_lock(&lock);
    if (n_blocks == max_blocks) blocks = realloc(blocks, (max_blocks = 2 * max_blocks + 64) * sizeof *blocks);
    blocks[n_blocks++] = (Block){(Pointer)memory, rounded};
    live += rounded;
    size_t total = live;
    pthread_mutex_unlock(&lock);
    record("live %zu", total);
    *out = (Pointer)memory;
    return SUCCESS;
}

static Result release(Pointer start) {
    Result code = INVALID_VALUE;
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < n_blocks; i++) {
        if (blocks[i].start != start) continue;
        munmap((void *)start, blocks[i].size);
        live -= blocks[i].size;
        blocks[i] = blocks[--n_blocks];
        code = SUCCESS;
        break;
    }
    pthread_mutex_unlock(&lock);
    return code;
}

Result cuMemAlloc_v2(Pointer *out, size_t size) { return reserve(out, size); }
Result cuMemAllocAsync(Pointer *out, size_t size, void *stream) { return reserve(out, size); }
Result cuMemFree_v2(Pointer start) { return release(start); }
Result cuMemFreeAsync(Pointer start, void *stream) { return release(start); }

Result cuMemAllocHost_v2(void **out, size_t size) {
    *out = aligned_alloc(4096, (size + 4095) & ~4095ul);
    return *out ? SUCCESS : OUT_OF_MEMORY;
}
Result cuMemHostAlloc(void **out, size_t size, unsigned flags) { return cuMemAllocHost_v2(out, size); }
Result cuMemFreeHost(void *memory) { free(memory); return SUCCESS; }

Result cuMemGetInfo_v2(size_t *unused, size_t *total) {
    *total = device()->memory;
    *unused = *total - live;
    return SUCCESS;
}

/// Longer copies are dropped: shapes and strides are shorter.
enum { MAX_COPY = 4096 };

Result cuMemcpyHtoDAsync_v2(Pointer to, const void *from, size_t size, void *stream) {
    if (size <= MAX_COPY) memcpy((void *)to, from, size);
    record("upload %zu", size);
    return SUCCESS;
}
Result cuMemcpyHtoD_v2(Pointer to, const void *from, size_t size) { return cuMemcpyHtoDAsync_v2(to, from, size, NULL); }

Result cuMemcpyDtoHAsync_v2(void *to, Pointer from, size_t size, void *stream) {
    memset(to, 0, size);
    record("download %zu", size);
    return SUCCESS;
}
Result cuMemcpyDtoH_v2(void *to, Pointer from, size_t size) { return cuMemcpyDtoHAsync_v2(to, from, size, NULL); }

Result cuMemcpyDtoDAsync_v2(Pointer to, Pointer from, size_t size, void *stream) {
    record("copy %zu", size);
    return SUCCESS;
}

Result cuMemsetD8Async(Pointer to, unsigned char value, size_t size, void *stream) {
    record("copy %zu", size);
    return SUCCESS;
}

typedef struct {
    size_t from_x, from_y;
    int from_kind; // 1 is the host, 2 the device.
    const void *from_host;
    Pointer from_device;
    void *from_array;
    size_t from_pitch, to_x, to_y;
    int to_kind;
    char *to_host;
    Pointer to_device;
    void *to_array;
    size_t to_pitch, width, height;
} Copy2D;

Result cuMemcpy2DAsync_v2(const Copy2D *copy, void *stream) {
    size_t size = copy->width * copy->height;
    if (copy->to_kind != 1) {
        record(copy->from_kind == 1 ? "upload %zu" : "copy %zu", size);
        return SUCCESS;
    }
    for (size_t row = 0; row < copy->height; row++)
        memset(copy->to_host + (copy->to_y + row) * copy->to_pitch + copy->to_x, 0, copy->width);
    record("download %zu", size);
    return SUCCESS;
}

// ---- Streams and events ----

Result cuStreamCreate(void **out, unsigned flags) { *out = malloc(1); return SUCCESS; }
Result cuStreamCreateWithPriority(void **out, unsigned flags, int priority) { return cuStreamCreate(out, flags); }
Result cuStreamDestroy_v2(void *stream) { free(stream); return SUCCESS; }
Result cuStreamSynchronize(void *stream) { record("sync"); return SUCCESS; }
Result cuStreamQuery(void *stream) { return SUCCESS; }
Result cuStreamWaitEvent(void *stream, void *event, unsigned flags) { return SUCCESS; }

Result cuEventCreate(uint64_t **out, unsigned flags) { *out = calloc(1, sizeof **out); return SUCCESS; }
Result cuEventDestroy_v2(uint64_t *event) { free(event); return SUCCESS; }
Result cuEventRecord(uint64_t *event, void *stream) { *event = clock_ns; return SUCCESS; }
Result cuEventSynchronize(uint64_t *event) { record("sync"); return SUCCESS; }
Result cuEventQuery(uint64_t *event) { return SUCCESS; }
Result cuEventElapsedTime_v2(float *ms, const uint64_t *start, const uint64_t *end) {
    *ms = (float)(*end - *start) / 1e6f;
    return SUCCESS;
}
Result cuEventElapsedTime(float *ms, const uint64_t *start, const uint64_t *end) {
    return cuEventElapsedTime_v2(ms, start, end);
}

// No graphs.
Result cuStreamBeginCapture_v2(void *stream, int mode) { return NOT_SUPPORTED; }
Result cuStreamEndCapture(void *stream, void **graph) { return NOT_SUPPORTED; }

// ---- Queries ----

Result cuInit(unsigned flags) { output(); return SUCCESS; }
Result cuDriverGetVersion(int *version) { *version = 13000; return SUCCESS; }
Result cuDeviceGet(int *out, int index) { *out = index; return index ? 101 : SUCCESS; }
Result cuDeviceGetCount(int *count) { *count = 1; return SUCCESS; }
Result cuDeviceGetName(char *name, int size, int index) { snprintf(name, size, "%s", device()->name); return SUCCESS; }
Result cuDeviceGetUuid_v2(void *uuid, int index) { memset(uuid, 7, 16); return SUCCESS; }
Result cuDeviceGetUuid(void *uuid, int index) { return cuDeviceGetUuid_v2(uuid, index); }
Result cuDeviceGetPCIBusId(char *text, int size, int index) { snprintf(text, size, "0000:01:00.0"); return SUCCESS; }
Result cuDeviceTotalMem_v2(size_t *size, int index) { *size = device()->memory; return SUCCESS; }

/// The numbers are those of `CUdevice_attribute`.
Result cuDeviceGetAttribute(int *value, int attribute, int index) {
    const Device *gpu = device();
    switch (attribute) {
    case 1: *value = 1024; break;                            // Threads of a block.
    case 2: case 3: *value = 1024; break;                    // The sides of a block.
    case 4: *value = 64; break;
    case 5: *value = 2147483647; break;                      // The sides of a grid.
    case 6: case 7: *value = 65535; break;
    case 8: *value = 49152; break;                           // Shared memory of a block, unless it asks for more.
    case 9: *value = 65536; break;                           // Constant memory.
    case 10: *value = 32; break;                             // Threads of a warp.
    case 12: case 82: *value = 65536; break;                 // Registers of a block and of a multiprocessor.
    case 16: *value = gpu->multiprocessors; break;
    case 31: case 41: *value = 1; break;                     // Concurrent kernels, unified addresses.
    case 39: *value = 2048; break;                           // Threads of a multiprocessor.
    case 75: *value = gpu->sm / 10; break;
    case 76: *value = gpu->sm % 10; break;
    case 81: *value = gpu->shared_per_multiprocessor; break;
    case 97: *value = gpu->shared_per_block; break;
    case 115: *value = 1; break;                             // Memory pools.
    default: *value = 0;
    }
    return SUCCESS;
}

static void *const context = (void *)0x1000;
Result cuDevicePrimaryCtxRetain(void **out, int index) { *out = context; return SUCCESS; }
Result cuDevicePrimaryCtxRelease_v2(int index) { return SUCCESS; }
Result cuCtxSetCurrent(void *current) { return SUCCESS; }
Result cuCtxGetCurrent(void **out) { *out = context; return SUCCESS; }
Result cuCtxGetDevice(int *index) { *index = 0; return SUCCESS; }
Result cuCtxSynchronize(void) { record("sync"); return SUCCESS; }
Result cuCtxGetStreamPriorityRange(int *least, int *greatest) { *least = 0; *greatest = -5; return SUCCESS; }
Result cuGetErrorName(Result code, const char **text) { *text = "CUDA_ERROR_OF_THE_STAND_IN"; return SUCCESS; }
Result cuGetErrorString(Result code, const char **text) { *text = "refused by the stand-in driver"; return SUCCESS; }
