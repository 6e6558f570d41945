/* One row per command, each defined in its cmd_NAME.c. */
#pragma once

#include "ctl/ctl.h"

extern const struct dml_ctl_command dml_cmd_bench;
extern const struct dml_ctl_command dml_cmd_check;
extern const struct dml_ctl_command dml_cmd_datasets;
extern const struct dml_ctl_command dml_cmd_evaluate;
extern const struct dml_ctl_command dml_cmd_models;
extern const struct dml_ctl_command dml_cmd_report;
extern const struct dml_ctl_command dml_cmd_run;
extern const struct dml_ctl_command dml_cmd_status;
extern const struct dml_ctl_command dml_cmd_stop;
extern const struct dml_ctl_command dml_cmd_strategies;
extern const struct dml_ctl_command dml_cmd_watch;
extern const struct dml_ctl_command dml_cmd_workers;
