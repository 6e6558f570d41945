/*
 * Files as people have them: unpacked or still gzipped, in a folder or not there at all. A missing
 * file is the commonest mistake with data sets, so its sentence names the folder that was searched
 * and the file that was looked for; dataset.c adds where the data can be had.
 */
#include "data/format.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/fileio.h"

int dml_format_read(const char *folder, const char *const *names, size_t n_names,
                    char ret_path[DML_FORMAT_PATH_MAX], char **ret_data, size_t *ret_len,
                    struct dml_err *err)
{
    struct stat st;
    if (stat(folder, &st) < 0)
        return dml_err_at(err, -errno, folder, 0, "cannot open this folder: %m");
    if (!S_ISDIR(st.st_mode))
        return dml_err_at(err, -EINVAL, folder, 0, "this is a file; path must name a folder");

    for (size_t i = 0; i < n_names; i++)
        for (int gz = 0; gz < 2; gz++) {
            int n = snprintf(ret_path, DML_FORMAT_PATH_MAX, "%s/%s%s", folder, names[i],
                             gz ? ".gz" : "");
            if (n < 0 || n >= DML_FORMAT_PATH_MAX)
                return dml_err_at(err, -ENAMETOOLONG, folder, 0, "the path is too long");
            if (stat(ret_path, &st) == 0)
                return dml_fileio_read(ret_path, DML_FORMAT_FILE_MAX, ret_data, ret_len, err);
            if (errno != ENOENT)
                return dml_err_at(err, -errno, ret_path, 0, "cannot be opened: %m");
        }
    return dml_err_at(err, -ENOENT, folder, 0, "there is no %s in this folder, plain or .gz",
                      names[0]);
}
