/* A stand-in for the NVIDIA Management Library, for the real pynvml bindings in tests.
 *
 * What the machine "has" is read at every call from the text file that NVML_STUB_STATE names:
 *
 *     driver ok|missing
 *     device UUID NAME TOTAL_MIB USED_MIB UTILISATION POWER_MW TEMPERATURE STATUS
 *
 * One line per device, in order; NAME without spaces. STATUS: `ok`, `lost` (its handle cannot be
 * had), `mute` (it has a handle and answers nothing but its UUID), `mig` (it is in MIG mode, and
 * the lines `part` that follow are its MIG devices) or `part`. Numbers of -1 are not supported.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7,
    DRIVER_NOT_LOADED = 9, GPU_IS_LOST = 15
};

typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned int gpu, memory; } utilization_t;

typedef struct {
    char uuid[96], name[96], status[16];
    long total, used, utilisation, power, temperature;
    int index;
} device_t;

#define MOST 32
/* A handle is the address of one of these: it stays valid, and says which line of the file to read. */
static int lines[MOST] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
                          17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31};

static int read_state(device_t *devices, int *driver)
{
    const char *path = getenv("NVML_STUB_STATE");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[512], word[16];
    int count = 0;
    *driver = 0;
    if (!file) return 0;
    while (count < MOST && fgets(line, sizeof line, file)) {
        device_t *d = &devices[count];
        if (sscanf(line, "driver %15s", word) == 1)
            *driver = strcmp(word, "ok") == 0;
        else if (sscanf(line, "device %95s %95s %ld %ld %ld %ld %ld %15s", d->uuid, d->name, &d->total,
                        &d->used, &d->utilisation, &d->power, &d->temperature, d->status) == 8)
            d->index = count++;
    }
    fclose(file);
    return count;
}

static int find(void *handle, device_t *found)
{
    device_t devices[MOST];
    int driver, count = read_state(devices, &driver), line = *(int *)handle;
    if (!driver) return DRIVER_NOT_LOADED;
    if (line >= count) return GPU_IS_LOST;
    *found = devices[line];
    return strcmp(found->status, "lost") == 0 ? GPU_IS_LOST : SUCCESS;
}

static int is_part(const device_t *d) { return strcmp(d->status, "part") == 0; }

static int speaks(void *handle, device_t *found)
{
    int result = find(handle, found);
    return result == SUCCESS && strcmp(found->status, "mute") == 0 ? NOT_SUPPORTED : result;
}

static int put(const char *text, char *buffer, unsigned int size)
{
    if (strlen(text) >= size) return INSUFFICIENT_SIZE;
    strcpy(buffer, text);
    return SUCCESS;
}

int nvmlInitWithFlags(unsigned int flags)
{
    device_t devices[MOST];
    int driver;
    (void)flags;
    read_state(devices, &driver);
    return driver ? SUCCESS : DRIVER_NOT_LOADED;
}

int nvmlShutdown(void) { return SUCCESS; }

const char *nvmlErrorString(int code)
{
    switch (code) {
    case SUCCESS: return "Success";
    case NOT_SUPPORTED: return "Not Supported";
    case NOT_FOUND: return "Not Found";
    case DRIVER_NOT_LOADED: return "Driver Not Loaded";
    case GPU_IS_LOST: return "GPU is lost";
    default: return "Unknown Error";
    }
}

int nvmlDeviceGetCount_v2(unsigned int *result)
{
    device_t devices[MOST];
    int driver, count = read_state(devices, &driver);
    *result = 0;
    for (int i = 0; i < count; i++) *result += !is_part(&devices[i]);
    return driver ? SUCCESS : DRIVER_NOT_LOADED;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **handle)
{
    device_t devices[MOST];
    int driver, count = read_state(devices, &driver);
    for (int i = 0; i < count; i++) {
        if (is_part(&devices[i])) continue;
        if (index-- == 0) {
            *handle = &lines[i];
            return find(*handle, &devices[i]);
        }
    }
    return INVALID_ARGUMENT;
}

int nvmlDeviceGetUUID(void *handle, char *buffer, unsigned int size)
{
    device_t d;
    int result = find(handle, &d);
    return result == SUCCESS ? put(d.uuid, buffer, size) : result;
}

int nvmlDeviceGetName(void *handle, char *buffer, unsigned int size)
{
    device_t d;
    int result = speaks(handle, &d);
    return result == SUCCESS ? put(d.name, buffer, size) : result;
}

int nvmlDeviceGetMemoryInfo(void *handle, memory_t *memory)
{
    device_t d;
    int result = speaks(handle, &d);
    if (result != SUCCESS) return result;
    memory->total = (unsigned long long)d.total << 20;
    memory->used = (unsigned long long)d.used << 20;
    memory->free = memory->total - memory->used;
    return SUCCESS;
}

int nvmlDeviceGetUtilizationRates(void *handle, utilization_t *rates)
{
    device_t d;
    int result = speaks(handle, &d);
    if (result != SUCCESS) return result;
    if (d.utilisation < 0) return NOT_SUPPORTED;
    rates->gpu = (unsigned int)d.utilisation;
    rates->memory = 0;
    return SUCCESS;
}

int nvmlDeviceGetPowerUsage(void *handle, unsigned int *milliwatts)
{
    device_t d;
    int result = speaks(handle, &d);
    if (result != SUCCESS) return result;
    if (d.power < 0) return NOT_SUPPORTED;
    *milliwatts = (unsigned int)d.power;
    return SUCCESS;
}

int nvmlDeviceGetTemperature(void *handle, int sensor, unsigned int *celsius)
{
    device_t d;
    int result = speaks(handle, &d);
    (void)sensor;
    if (result != SUCCESS) return result;
    if (d.temperature < 0) return NOT_SUPPORTED;
    *celsius = (unsigned int)d.temperature;
    return SUCCESS;
}

int nvmlDeviceGetMigMode(void *handle, unsigned int *current, unsigned int *pending)
{
    device_t d;
    int result = speaks(handle, &d);
    if (result != SUCCESS) return result;
    *current = *pending = strcmp(d.status, "mig") == 0;
    return SUCCESS;
}

int nvmlDeviceGetMaxMigDeviceCount(void *handle, unsigned int *count)
{
    (void)handle;
    *count = 7;
    return SUCCESS;
}

int nvmlDeviceGetMigDeviceHandleByIndex(void *handle, unsigned int index, void **part)
{
    device_t devices[MOST], parent;
    int driver, count = read_state(devices, &driver), result = find(handle, &parent);
    if (result != SUCCESS) return result;
    for (int i = parent.index + 1; i < count && is_part(&devices[i]); i++)
        if (index-- == 0) {
            *part = &lines[i];
            return SUCCESS;
        }
    return NOT_FOUND;
}
