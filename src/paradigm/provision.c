/*
 * A shard is named by the SHA-256 of its packed bytes, so a worker that has trained on it before
 * (an earlier repeat, before a power cut) takes it from its SD card instead of from the network.
 * The master keeps hashes, not packed shards: packing again costs a memcpy, keeping them would
 * double the memory of the data set.
 */
#include "paradigm/provision.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/fileio.h"
#include "conf/parallel.h"
#include "paradigm/shard_cache.h"

static int pack_shard(const struct dml_task *task, uint32_t shard, struct dml_buf **ret)
{
    const struct dml_shards *shards = task->shards;
    return dml_dataset_pack(task->train, shards->index[shard], shards->n[shard], ret);
}

/* The first stage of each replica has its data. */
static uint32_t first_shard(const struct dml_task *task, uint32_t rank)
{
    uint32_t stages = (uint32_t)dml_parallel_stages(task->tc);
    uint32_t i = rank - 1;
    return i % stages == 0 && i / stages < task->shards->n_shards ? i / stages
                                                                  : DML_PROVISION_NO_SHARD;
}

int dml_provision_init(struct dml_provision *p, struct dml_task *task)
{
    uint32_t size = task->comm->size;
    *p = (struct dml_provision){.task = task};
    p->state = calloc(size, sizeof(*p->state));
    p->shard = calloc(size, sizeof(*p->shard));
    p->hash = calloc(task->shards->n_shards, sizeof(*p->hash));
    if (!p->state || !p->shard || !p->hash)
        return -ENOMEM;
    for (uint32_t shard = 0; shard < task->shards->n_shards; shard++) {
        _cleanup_(dml_buf_unrefp) struct dml_buf *packed = NULL;
        int r = pack_shard(task, shard, &packed);
        if (r < 0)
            return r;
        dml_fileio_hash(packed->data, packed->len, p->hash[shard]);
    }
    for (uint32_t rank = 1; rank < size; rank++)
        p->shard[rank] = first_shard(task, rank);
    return 0;
}

void dml_provision_done(struct dml_provision *p)
{
    free(p->state);
    free(p->shard);
    free(p->hash);
    *p = (struct dml_provision){0};
}

static void set_state(struct dml_provision *p, uint32_t rank, enum dml_provision_state state)
{
    if (p->state[rank] == DML_PROVISION_READY)
        p->n_ready--;
    if (state == DML_PROVISION_READY)
        p->n_ready++;
    p->state[rank] = state;
}

size_t dml_provision_n_samples(const struct dml_provision *p, uint32_t rank)
{
    uint32_t shard = p->shard[rank];
    return shard == DML_PROVISION_NO_SHARD ? 0 : p->task->shards->n[shard];
}

static int offer(struct dml_provision *p, uint32_t rank)
{
    _cleanup_(dml_message_donep) struct dml_comm_msg msg = {.kind = DML_MESSAGE_OFFER};
    if (p->shard[rank] != DML_PROVISION_NO_SHARD) {
        const char *hash = p->hash[p->shard[rank]];
        msg.seq = 1 + (uint64_t)p->shard[rank];
        msg.body = dml_buf_new_copy(hash, strlen(hash));
        if (!msg.body)
            return -ENOMEM;
    }
    set_state(p, rank, DML_PROVISION_OFFERED);
    int r = dml_comm_send(p->task->comm, rank, &msg);
    return r == -EPIPE ? 0 : r; /* gone again: LOST says so in its turn */
}

int dml_provision_assign(struct dml_provision *p, uint32_t rank, uint32_t shard)
{
    if (p->shard[rank] == shard)
        return 0;
    p->shard[rank] = shard;
    return p->state[rank] == DML_PROVISION_GONE ? 0 : offer(p, rank);
}

static int send_shard(struct dml_provision *p, uint32_t rank)
{
    if (p->shard[rank] == DML_PROVISION_NO_SHARD)
        return 0;
    _cleanup_(dml_message_donep) struct dml_comm_msg msg = {.kind = DML_MESSAGE_SHARD};
    int r = pack_shard(p->task, p->shard[rank], &msg.body);
    if (r == 0)
        r = dml_comm_send(p->task->comm, rank, &msg);
    set_state(p, rank, DML_PROVISION_SENT);
    return r == -EPIPE ? 0 : r;
}

static void worker_left(struct dml_provision *p, const struct dml_comm_msg *msg)
{
    if (p->state[msg->from] == DML_PROVISION_GONE)
        return;
    if (msg->kind == DML_MESSAGE_FAILED && msg->body) {
        struct dml_round_worker who = {.rank = msg->from};
        if (p->task->describe)
            p->task->describe(p->task->describe_arg, msg->from, &who);
        char text[401];
        dml_message_text(msg->body, text, sizeof(text));
        snprintf(p->last_failure, sizeof(p->last_failure), "%s: %s",
                 who.id[0] ? who.id : "a worker", text);
        dml_event_worker_lost(p->task->events, who.id, p->last_failure);
    }
    if (p->state[msg->from] == DML_PROVISION_READY)
        p->n_lost++;
    set_state(p, msg->from, DML_PROVISION_GONE);
}

static void tell_ready(struct dml_provision *p, const struct dml_comm_msg *msg)
{
    static const char *const held[] = {
        [DML_CORES_WHOLE] = "",
        [DML_CORES_BY_DUTY] = "duty cycle",
        [DML_CORES_BY_KERNEL] = "kernel quota",
    };
    bool complete = msg->n_meta >= DML_READY_N_;
    double by = complete ? msg->meta[DML_READY_CORES_HELD] : 0.0;
    dml_event_worker_ready(p->task->events, p->task->run, msg->from,
                           dml_provision_n_samples(p, msg->from),
                           complete && msg->meta[DML_READY_CACHED] > 0.0,
                           by >= 0.0 && by < DML_CORES_MAX_ ? held[(int)by] : "");
}

int dml_provision_handle(struct dml_provision *p, const struct dml_comm_msg *msg)
{
    switch (msg->kind) {
    case DML_COMM_JOINED:
        return offer(p, msg->from);
    case DML_COMM_LOST:
    case DML_MESSAGE_FAILED:
        worker_left(p, msg);
        return 0;
    case DML_MESSAGE_WANT:
        return p->state[msg->from] == DML_PROVISION_OFFERED ? send_shard(p, msg->from) : 0;
    case DML_MESSAGE_READY:
        if (p->state[msg->from] != DML_PROVISION_OFFERED &&
            p->state[msg->from] != DML_PROVISION_SENT)
            return 0;
        set_state(p, msg->from, DML_PROVISION_READY);
        tell_ready(p, msg);
        return 0;
    default:
        return 0;
    }
}

int dml_provision_wait(struct dml_provision *p, unsigned n, uint64_t deadline_us,
                       struct dml_err *err)
{
    while (p->n_ready < n) {
        _cleanup_(dml_message_donep) struct dml_comm_msg msg = {0};
        int r = dml_message_next(p->task, deadline_us, &msg);
        if (r == -ETIMEDOUT)
            return dml_err_set(err, r, "%u of %u workers were ready in time%s%s", p->n_ready, n,
                               p->last_failure[0] ? "; " : "", p->last_failure);
        if (r < 0)
            return r;
        r = dml_provision_handle(p, &msg);
        if (r < 0)
            return r;
        /* Somebody who cannot take part will not be ready later either: say why, now. */
        if (msg.kind == DML_MESSAGE_FAILED)
            return dml_err_set(err, -ECOMM, "%s", p->last_failure);
    }
    return 0;
}

/* Waits for `kind` from the master; everything else at this point is a broken conversation. */
static int expect(struct dml_task *task, uint32_t kind, struct dml_comm_msg *ret)
{
    int r = dml_comm_recv(task->comm, 0, DML_CLOCK_NEVER, ret);
    while (r == 0 && ret->kind == DML_COMM_JOINED)
        r = dml_comm_recv(task->comm, 0, DML_CLOCK_NEVER, ret);
    if (r < 0)
        return r;
    if (ret->kind == kind)
        return 0;
    r = ret->kind == DML_COMM_LOST        ? -EPIPE
        : ret->kind == DML_MESSAGE_FINISH ? -ECANCELED
                                          : -EPROTO;
    dml_message_done(ret);
    return r;
}

/* placement = local: this node has all the files; deal them as the master did, keep the own part.
 */
static int load_local(struct dml_task *task, uint64_t i, const char *hash,
                      struct dml_dataset **ret, struct dml_err *err)
{
    const struct dml_data_options *o = task->data;
    _cleanup_(dml_dataset_freep) struct dml_dataset *train = NULL, *test = NULL;
    _cleanup_(dml_shards_freep) struct dml_shards *shards = NULL;
    int r = dml_dataset_load(o, &train, &test, err);
    if (r == 0)
        r = dml_shard_make(train, o, o->split_seed, dml_parallel_replicas(task->tc), &shards, err);
    if (r < 0)
        return r;
    if (i >= shards->n_shards)
        return -EPROTO;
    _cleanup_(dml_buf_unrefp) struct dml_buf *packed = NULL;
    r = dml_dataset_pack(train, shards->index[i], shards->n[i], &packed);
    if (r < 0)
        return r;
    char own[DML_FILEIO_HASH_LEN];
    dml_fileio_hash(packed->data, packed->len, own);
    if (strcmp(own, hash) != 0)
        return dml_err_set(err, -EBADMSG,
                           "the %s files here differ from the master's: copy them again, or write "
                           "placement = master",
                           o->dataset);
    *ret = dml_dataset_subset(train, shards->index[i], shards->n[i]);
    return *ret ? 0 : -ENOMEM;
}

static int receive_shard(struct dml_task *task, const char *hash, struct dml_dataset **ret,
                         struct dml_err *err)
{
    int r = dml_message_send(task->comm, 0, DML_MESSAGE_WANT, 0);
    if (r < 0)
        return r;
    _cleanup_(dml_message_donep) struct dml_comm_msg msg = {0};
    r = expect(task, DML_MESSAGE_SHARD, &msg);
    if (r < 0)
        return r;
    if (!msg.body)
        return -EPROTO;
    r = dml_dataset_unpack(msg.body->data, msg.body->len, ret, err);
    if (r == 0 && task->cache_dir)
        dml_shard_cache_put(task->cache_dir, task->cache_max, hash, msg.body);
    return r;
}

int dml_provision_take(struct dml_task *task, const struct dml_comm_msg *offer,
                       struct dml_dataset **ret, bool *ret_cached, struct dml_err *err)
{
    char hash[DML_FILEIO_HASH_LEN] = "";
    *ret_cached = false;
    if (offer->seq == 0) {
        *ret = calloc(1, sizeof(**ret));
        return *ret ? 0 : -ENOMEM;
    }
    if (!offer->body || offer->body->len != sizeof(hash) - 1)
        return -EPROTO;
    memcpy(hash, offer->body->data, sizeof(hash) - 1);
    if (strspn(hash, "0123456789abcdef") != sizeof(hash) - 1)
        return -EPROTO; /* it becomes a file name */
    if (task->tc->data.placement == DML_PLACEMENT_LOCAL)
        return load_local(task, offer->seq - 1, hash, ret, err);
    if (task->cache_dir && dml_shard_cache_get(task->cache_dir, hash, ret) == 0) {
        *ret_cached = true;
        return 0;
    }
    return receive_shard(task, hash, ret, err);
}

int dml_provision_fetch(struct dml_task *task, struct dml_dataset **ret, bool *ret_cached,
                        struct dml_err *err)
{
    _cleanup_(dml_message_donep) struct dml_comm_msg msg = {0};
    int r = expect(task, DML_MESSAGE_OFFER, &msg);
    return r < 0 ? r : dml_provision_take(task, &msg, ret, ret_cached, err);
}

int dml_provision_ready(struct dml_task *task, const struct dml_dataset *shard, bool cached)
{
    struct dml_comm_msg msg = {
        .kind = DML_MESSAGE_READY,
        .n_meta = DML_READY_N_,
        .meta = {[DML_READY_SAMPLES] = (double)shard->n_samples,
                 [DML_READY_CACHED] = cached,
                 [DML_READY_CORES_HELD] = task->cores_held},
    };
    return dml_comm_send(task->comm, 0, &msg);
}

int dml_provision_serve(struct dml_task *task, dml_provision_work_fn work, struct dml_err *err)
{
    _cleanup_(dml_dataset_freep) struct dml_dataset *shard = NULL;
    _cleanup_(dml_trainer_freep) struct dml_trainer *trainer = NULL;
    bool cached = false;
    int r = dml_provision_fetch(task, &shard, &cached, err);
    if (r == 0)
        r = dml_trainer_new(task->model, shard, &task->tc->train, &task->tc->data, task->comm->rank,
                            &task->cpu, &trainer, err);
    if (r == 0)
        r = dml_provision_ready(task, shard, cached);
    if (r == 0)
        r = work(task, trainer, shard->n_samples);
    return r;
}
