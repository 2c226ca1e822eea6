/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a fuzz target over the files of one folder, in place of the fuzzer. An empty corpus is a failure. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int argc, char **argv)
{
    DIR *dir = argc == 2 ? opendir(argv[1]) : NULL;
    if (!dir) {
        fprintf(stderr, "usage: %s CORPUS_FOLDER (which must be there)\n", argv[0]);
        return 2;
    }
    unsigned n = 0;
    for (const struct dirent *e; (e = readdir(dir));) {
        if (e->d_name[0] == '.')
            continue;
        PFL_AUTO(pfl_freep) char *path = pfl_fs_join(argv[1], e->d_name);
        PFL_AUTO(pfl_blob_freep) struct pfl_blob *b = NULL;
        struct pfl_err err = {0};
        if (pfl_fs_read(path, (size_t)64 << 20, &b, &err) != PFL_OK) {
            fprintf(stderr, "%s\n", err.msg);
            return 1;
        }
        uint8_t *exact = malloc(b->len ? b->len : 1); /* its own block, so that a read past the end is seen */
        if (!exact)
            return 1;
        memcpy(exact, b->data, b->len);
        LLVMFuzzerTestOneInput(exact, b->len);
        free(exact);
        n++;
    }
    closedir(dir);
    printf("%u inputs replayed\n", n);
    return n > 0 ? 0 : 1;
}
