/* SPDX-License-Identifier: Apache-2.0 */
/* The stack machine. Each opcode takes what it needs from the input and the stack or refuses the pickle; nothing recurses. */
#include "wire/pickle.h"

#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "wire/pickle_impl.h"

#define TRY(x)                                                                                                                     \
    do {                                                                                                                           \
        enum pfl_rc try_rc = (x);                                                                                                  \
        if (try_rc != PFL_OK)                                                                                                      \
            return try_rc;                                                                                                         \
    } while (0)

/* Opcodes by their names in pickletools.py. */
enum {
    OP_MARK = '(',
    OP_STOP = '.',
    OP_BINFLOAT = 'G',
    OP_BININT = 'J',
    OP_BININT1 = 'K',
    OP_BININT2 = 'M',
    OP_NONE = 'N',
    OP_REDUCE = 'R',
    OP_BINUNICODE = 'X',
    OP_APPEND = 'a',
    OP_BUILD = 'b',
    OP_GLOBAL = 'c',
    OP_APPENDS = 'e',
    OP_BINGET = 'h',
    OP_LONG_BINGET = 'j',
    OP_BINPUT = 'q',
    OP_LONG_BINPUT = 'r',
    OP_SETITEM = 's',
    OP_TUPLE = 't',
    OP_SETITEMS = 'u',
    OP_EMPTY_LIST = ']',
    OP_EMPTY_DICT = '}',
    OP_EMPTY_TUPLE = ')',
    OP_BINBYTES = 'B',
    OP_SHORT_BINBYTES = 'C',
    OP_PROTO = 0x80,
    OP_TUPLE1 = 0x85,
    OP_TUPLE2 = 0x86,
    OP_TUPLE3 = 0x87,
    OP_NEWTRUE = 0x88,
    OP_NEWFALSE = 0x89,
    OP_LONG1 = 0x8a,
    OP_SHORT_BINUNICODE = 0x8c,
    OP_BINBYTES8 = 0x8e,
    OP_STACK_GLOBAL = 0x93,
    OP_MEMOIZE = 0x94,
    OP_FRAME = 0x95,
    OP_BYTEARRAY8 = 0x96,
};

static enum pfl_rc malformed(struct pfl_pickle *p, const char *what)
{
    return pfl_err_set(p->err, PFL_MALFORMED, "pickle: %s (byte %zu)", what, p->at);
}

/* ---- memory ---- */

static bool grow(void **items, size_t *cap, size_t n, size_t size)
{
    if (n < *cap)
        return true;
    size_t want = *cap ? *cap * 2 : 64;
    *items = pfl_xrealloc(*items, want * size);
    *cap = want;
    return true;
}

struct pfl_py *pfl_pickle_value(struct pfl_pickle *p, enum pfl_py_kind kind)
{
    if (p->n_values == PFL_PICKLE_VALUES_MAX) {
        (void)pfl_err_set(p->err, PFL_TOO_BIG, "pickle: more than %d values", PFL_PICKLE_VALUES_MAX);
        return NULL;
    }
    (void)grow((void **)&p->values, &p->cap_values, p->n_values, sizeof(struct pfl_py *));
    struct pfl_py *v = pfl_xcalloc(1, sizeof(*v));
    v->kind = kind;
    p->values[p->n_values++] = v;
    return v;
}

void *pfl_pickle_alloc(struct pfl_pickle *p, size_t n)
{
    (void)grow((void **)&p->owned, &p->cap_owned, p->n_owned, sizeof(void *));
    void *block = pfl_xcalloc(n ? n : 1, 1);
    p->owned[p->n_owned++] = block;
    return block;
}

static enum pfl_rc push(struct pfl_pickle *p, struct pfl_py *v)
{
    if (!v)
        return p->err->rc;
    if (p->n_stack == PFL_PICKLE_STACK_MAX)
        return pfl_err_set(p->err, PFL_TOO_BIG, "pickle: more than %d values on the stack", PFL_PICKLE_STACK_MAX);
    (void)grow((void **)&p->stack, &p->cap_stack, p->n_stack, sizeof(struct pfl_py *));
    p->stack[p->n_stack++] = v;
    return PFL_OK;
}

/* Where the topmost mark lies, or the bottom: nothing below it may be taken. */
static size_t floor_of(const struct pfl_pickle *p)
{
    return p->n_marks ? p->marks[p->n_marks - 1] : 0;
}

static struct pfl_py *pop(struct pfl_pickle *p)
{
    if (p->n_stack <= floor_of(p)) {
        (void)malformed(p, "the stack is empty");
        return NULL;
    }
    return p->stack[--p->n_stack];
}

static struct pfl_py *top(struct pfl_pickle *p)
{
    if (p->n_stack <= floor_of(p)) {
        (void)malformed(p, "the stack is empty");
        return NULL;
    }
    return p->stack[p->n_stack - 1];
}

static enum pfl_rc pop_mark(struct pfl_pickle *p, size_t *ret)
{
    if (p->n_marks == 0)
        return malformed(p, "no mark on the stack");
    *ret = p->marks[--p->n_marks];
    return PFL_OK;
}

/* ---- input ---- */

static enum pfl_rc take(struct pfl_pickle *p, size_t n, struct pfl_bytes *ret)
{
    if (n > p->in.len - p->at)
        return malformed(p, "it ends early");
    *ret = pfl_bytes_of(p->in.data + p->at, n);
    p->at += n;
    return PFL_OK;
}

static enum pfl_rc take_uint(struct pfl_pickle *p, unsigned n, uint64_t *ret)
{
    struct pfl_bytes b = {0};
    TRY(take(p, n, &b));
    *ret = 0;
    for (unsigned i = n; i-- > 0;)
        *ret = *ret << 8 | b.data[i];
    return PFL_OK;
}

/* Length of n bytes, then so many bytes. */
static enum pfl_rc take_counted(struct pfl_pickle *p, unsigned n, struct pfl_bytes *ret)
{
    uint64_t len = 0;
    TRY(take_uint(p, n, &len));
    if (len > p->in.len - p->at)
        return malformed(p, "a length goes beyond the end");
    return take(p, (size_t)len, ret);
}

static enum pfl_rc take_line(struct pfl_pickle *p, struct pfl_bytes *ret)
{
    const uint8_t *from = p->in.data + p->at;
    const uint8_t *end = p->in.len > p->at ? memchr(from, '\n', p->in.len - p->at) : NULL;
    if (!end)
        return malformed(p, "a line without an end");
    *ret = pfl_bytes_of(from, (size_t)(end - from));
    p->at += ret->len + 1;
    return PFL_OK;
}

/* ---- opcodes ---- */

static enum pfl_rc push_bytes(struct pfl_pickle *p, enum pfl_py_kind kind, unsigned length_bytes)
{
    struct pfl_bytes b = {0};
    TRY(take_counted(p, length_bytes, &b));
    struct pfl_py *v = pfl_pickle_value(p, kind);
    if (v)
        v->bytes = b;
    return push(p, v);
}

static enum pfl_rc push_int(struct pfl_pickle *p, int64_t i)
{
    struct pfl_py *v = pfl_pickle_value(p, PFL_PY_INT);
    if (v)
        v->integer = i;
    return push(p, v);
}

static enum pfl_rc push_bool(struct pfl_pickle *p, bool b)
{
    struct pfl_py *v = pfl_pickle_value(p, PFL_PY_BOOL);
    if (v)
        v->boolean = b;
    return push(p, v);
}

static enum pfl_rc push_uint(struct pfl_pickle *p, unsigned n)
{
    uint64_t u = 0;
    TRY(take_uint(p, n, &u));
    return push_int(p, n == 4 ? (int64_t)(int32_t)(uint32_t)u : (int64_t)u); /* BININT is signed, the short ones are not */
}

static enum pfl_rc push_long(struct pfl_pickle *p)
{
    struct pfl_bytes b = {0};
    TRY(take_counted(p, 1, &b));
    if (b.len > 8)
        return pfl_err_set(p->err, PFL_TOO_BIG, "pickle: an integer of %zu bytes, at most 8 are read", b.len);
    uint64_t u = b.len && b.data[b.len - 1] & 0x80 ? UINT64_MAX : 0;
    for (size_t i = b.len; i-- > 0;)
        u = u << 8 | b.data[i];
    return push_int(p, (int64_t)u);
}

static enum pfl_rc push_float(struct pfl_pickle *p)
{
    struct pfl_bytes b = {0};
    TRY(take(p, 8, &b));
    uint64_t u = 0;
    for (size_t i = 0; i < 8; i++) /* the one big-endian number */
        u = u << 8 | b.data[i];
    struct pfl_py *v = pfl_pickle_value(p, PFL_PY_FLOAT);
    if (v)
        memcpy(&v->real, &u, sizeof(u));
    return push(p, v);
}

/* The n values above `from` become the items of v. */
static enum pfl_rc add_items(struct pfl_pickle *p, struct pfl_py *v, size_t from)
{
    size_t n = p->n_stack - from;
    p->n_items += n;
    if (p->n_items > PFL_PICKLE_VALUES_MAX) /* shared values are counted each time: they cost memory each time */
        return pfl_err_set(p->err, PFL_TOO_BIG, "pickle: more than %d items", PFL_PICKLE_VALUES_MAX);
    if (v->list.n + n > v->list.cap) {
        size_t cap = v->list.n + n > v->list.cap * 2 ? v->list.n + n : v->list.cap * 2;
        const struct pfl_py **items = pfl_pickle_alloc(p, cap * sizeof(*items));
        if (v->list.n)
            memcpy(items, v->list.items, v->list.n * sizeof(*items));
        v->list.items = items;
        v->list.cap = cap;
    }
    for (size_t i = 0; i < n; i++)
        v->list.items[v->list.n++] = p->stack[from + i];
    p->n_stack = from;
    return PFL_OK;
}

static enum pfl_rc make_tuple(struct pfl_pickle *p, size_t n)
{
    if (p->n_stack - floor_of(p) < n)
        return malformed(p, "the stack is empty");
    struct pfl_py *v = pfl_pickle_value(p, PFL_PY_TUPLE);
    if (!v)
        return p->err->rc;
    if (n)
        TRY(add_items(p, v, p->n_stack - n));
    return push(p, v);
}

static enum pfl_rc make_marked_tuple(struct pfl_pickle *p)
{
    size_t mark = 0;
    TRY(pop_mark(p, &mark));
    return make_tuple(p, p->n_stack - mark);
}

/* Appends the values above `from` to the list or dict below them. */
static enum pfl_rc append(struct pfl_pickle *p, enum pfl_py_kind kind, size_t from)
{
    if (from <= floor_of(p) || p->stack[from - 1]->kind != kind)
        return malformed(p, kind == PFL_PY_LIST ? "something is appended to what is no list" : "an item is set in what is no dict");
    if (kind == PFL_PY_DICT && (p->n_stack - from) % 2 != 0)
        return malformed(p, "a dict gets a key without a value");
    return p->n_stack == from ? PFL_OK : add_items(p, p->stack[from - 1], from);
}

static enum pfl_rc append_marked(struct pfl_pickle *p, enum pfl_py_kind kind)
{
    size_t mark = 0;
    TRY(pop_mark(p, &mark));
    return append(p, kind, mark);
}

static enum pfl_rc append_top(struct pfl_pickle *p, enum pfl_py_kind kind)
{
    size_t n = kind == PFL_PY_DICT ? 2 : 1;
    if (p->n_stack - floor_of(p) < n + 1)
        return malformed(p, "the stack is empty");
    return append(p, kind, p->n_stack - n);
}

static enum pfl_rc memo_put(struct pfl_pickle *p, uint64_t i)
{
    struct pfl_py *v = top(p);
    if (!v)
        return p->err->rc;
    if (i >= PFL_PICKLE_MEMO_MAX)
        return pfl_err_set(p->err, PFL_TOO_BIG, "pickle: memo slot %llu, the limit is %d", (unsigned long long)i,
                           PFL_PICKLE_MEMO_MAX);
    if (i >= p->cap_memo) {
        size_t cap = p->cap_memo ? p->cap_memo : 64;
        while (cap <= i)
            cap *= 2;
        p->memo = pfl_xrealloc(p->memo, cap * sizeof(struct pfl_py *));
        memset(p->memo + p->cap_memo, 0, (cap - p->cap_memo) * sizeof(struct pfl_py *));
        p->cap_memo = cap;
    }
    p->n_memo += p->memo[i] == NULL;
    p->memo[i] = v;
    return PFL_OK;
}

static enum pfl_rc op_put(struct pfl_pickle *p, unsigned length)
{
    uint64_t i = 0;
    TRY(take_uint(p, length, &i));
    return memo_put(p, i);
}

static enum pfl_rc op_get(struct pfl_pickle *p, unsigned length)
{
    uint64_t i = 0;
    TRY(take_uint(p, length, &i));
    if (i >= p->cap_memo || !p->memo[i])
        return malformed(p, "a memo slot that nothing was put into");
    return push(p, p->memo[i]);
}

static enum pfl_rc op_mark(struct pfl_pickle *p)
{
    if (p->n_marks == PFL_PICKLE_STACK_MAX)
        return pfl_err_set(p->err, PFL_TOO_BIG, "pickle: more than %d marks", PFL_PICKLE_STACK_MAX);
    (void)grow((void **)&p->marks, &p->cap_marks, p->n_marks, sizeof(size_t));
    p->marks[p->n_marks++] = p->n_stack;
    return PFL_OK;
}

static enum pfl_rc op_global(struct pfl_pickle *p)
{
    struct pfl_bytes module = {0}, name = {0};
    TRY(take_line(p, &module));
    TRY(take_line(p, &name));
    return push(p, pfl_pickle_global(p, module, name));
}

static enum pfl_rc op_stack_global(struct pfl_pickle *p)
{
    struct pfl_py *name = pop(p), *module = name ? pop(p) : NULL;
    if (!module)
        return p->err->rc;
    if (name->kind != PFL_PY_STR || module->kind != PFL_PY_STR)
        return malformed(p, "a global whose name is no string");
    return push(p, pfl_pickle_global(p, module->bytes, name->bytes));
}

static enum pfl_rc op_reduce(struct pfl_pickle *p)
{
    struct pfl_py *args = pop(p), *fn = args ? pop(p) : NULL;
    if (!fn)
        return p->err->rc;
    if (fn->kind != PFL_PY_CALLABLE || args->kind != PFL_PY_TUPLE)
        return malformed(p, "a call of what cannot be called");
    return push(p, pfl_pickle_reduce(p, fn, args));
}

static enum pfl_rc op_build(struct pfl_pickle *p)
{
    struct pfl_py *state = pop(p), *target = state ? top(p) : NULL;
    return target ? pfl_pickle_build(p, target, state) : p->err->rc;
}

static enum pfl_rc op_proto(struct pfl_pickle *p)
{
    uint64_t version = 0;
    TRY(take_uint(p, 1, &version));
    if (version < 2 || version > 5)
        return pfl_err_set(p->err, PFL_UNSUPPORTED, "pickle: protocol %u; 2 to 5 are read", (unsigned)version);
    return PFL_OK;
}

static enum pfl_rc op_frame(struct pfl_pickle *p)
{
    uint64_t len = 0;
    TRY(take_uint(p, 8, &len));
    return len <= p->in.len - p->at ? PFL_OK : malformed(p, "a frame goes beyond the end");
}

static enum pfl_rc step(struct pfl_pickle *p, uint8_t op)
{
    switch (op) {
    case OP_PROTO:
        return op_proto(p);
    case OP_FRAME:
        return op_frame(p);
    case OP_MARK:
        return op_mark(p);
    case OP_NONE:
        return push(p, pfl_pickle_value(p, PFL_PY_NONE));
    case OP_NEWTRUE:
    case OP_NEWFALSE:
        return push_bool(p, op == OP_NEWTRUE);
    case OP_BININT:
        return push_uint(p, 4);
    case OP_BININT1:
        return push_uint(p, 1);
    case OP_BININT2:
        return push_uint(p, 2);
    case OP_LONG1:
        return push_long(p);
    case OP_BINFLOAT:
        return push_float(p);
    case OP_SHORT_BINUNICODE:
        return push_bytes(p, PFL_PY_STR, 1);
    case OP_BINUNICODE:
        return push_bytes(p, PFL_PY_STR, 4);
    case OP_SHORT_BINBYTES:
        return push_bytes(p, PFL_PY_BYTES, 1);
    case OP_BINBYTES:
        return push_bytes(p, PFL_PY_BYTES, 4);
    case OP_BINBYTES8:
    case OP_BYTEARRAY8:
        return push_bytes(p, PFL_PY_BYTES, 8);
    case OP_EMPTY_LIST:
        return push(p, pfl_pickle_value(p, PFL_PY_LIST));
    case OP_EMPTY_DICT:
        return push(p, pfl_pickle_value(p, PFL_PY_DICT));
    case OP_EMPTY_TUPLE:
        return make_tuple(p, 0);
    case OP_TUPLE1:
    case OP_TUPLE2:
    case OP_TUPLE3:
        return make_tuple(p, (size_t)op - OP_TUPLE1 + 1);
    case OP_TUPLE:
        return make_marked_tuple(p);
    case OP_APPEND:
        return append_top(p, PFL_PY_LIST);
    case OP_APPENDS:
        return append_marked(p, PFL_PY_LIST);
    case OP_SETITEM:
        return append_top(p, PFL_PY_DICT);
    case OP_SETITEMS:
        return append_marked(p, PFL_PY_DICT);
    case OP_MEMOIZE:
        return memo_put(p, p->n_memo);
    case OP_BINPUT:
        return op_put(p, 1);
    case OP_LONG_BINPUT:
        return op_put(p, 4);
    case OP_BINGET:
        return op_get(p, 1);
    case OP_LONG_BINGET:
        return op_get(p, 4);
    case OP_GLOBAL:
        return op_global(p);
    case OP_STACK_GLOBAL:
        return op_stack_global(p);
    case OP_REDUCE:
        return op_reduce(p);
    case OP_BUILD:
        return op_build(p);
    default:
        return pfl_err_set(p->err, PFL_UNSUPPORTED, "pickle: opcode 0x%02x at byte %zu is not one that a model needs", op,
                           p->at - 1);
    }
}

static enum pfl_rc run(struct pfl_pickle *p)
{
    for (;;) {
        struct pfl_bytes op = {0};
        TRY(take(p, 1, &op));
        if (op.data[0] == OP_STOP)
            break;
        TRY(step(p, op.data[0]));
    }
    if (p->n_stack != 1 || p->n_marks != 0)
        return malformed(p, "it ends with other than one value");
    if (p->at != p->in.len)
        return malformed(p, "bytes behind its end");
    p->root = p->stack[0];
    return PFL_OK;
}

enum pfl_rc pfl_pickle_read(struct pfl_bytes in, struct pfl_pickle **ret, struct pfl_err *err)
{
    struct pfl_err local = {0};
    PFL_AUTO(pfl_pickle_freep) struct pfl_pickle *p = pfl_xcalloc(1, sizeof(*p));
    p->in = in;
    p->err = err ? err : &local;
    TRY(run(p));
    p->err = NULL;
    *ret = pfl_steal(&p);
    return PFL_OK;
}

void pfl_pickle_free(struct pfl_pickle *p)
{
    if (!p)
        return;
    for (size_t i = 0; i < p->n_values; i++)
        free(p->values[i]);
    for (size_t i = 0; i < p->n_owned; i++)
        free(p->owned[i]);
    free(p->values);
    free(p->owned);
    free(p->stack);
    free(p->marks);
    free(p->memo);
    free(p);
}

const struct pfl_py *pfl_pickle_root(const struct pfl_pickle *p)
{
    return p->root;
}
