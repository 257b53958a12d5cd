package sqlguard

import (
	"fmt"
	"strings"
)

// secretSystemColumns are columns of system catalogs that show other sessions'
// statements, passwords, or settings that somebody made up. They are masked on
// every connection. PullQuery describes these catalogs.
var secretSystemColumns = map[string]map[string]string{
	"pg_stat_activity": {
		"query":            "'****'::pg_catalog.text",
		"application_name": "case when {pid} operator(pg_catalog.=) pg_catalog.pg_backend_pid() then {application_name} else '****' end", // others choose what it says
	},
	"pg_subscription":    {"subconninfo": "'****'::pg_catalog.text"},
	"pg_db_role_setting": {"setconfig": "null::pg_catalog._text"},
	"pg_roles":           {"rolconfig": "null::pg_catalog._text"},
	"pg_user":            {"useconfig": "null::pg_catalog._text"},
	"pg_user_mappings":   {"umoptions": "null::pg_catalog._text"},
	"pg_stat_gssapi":     {"principal": "'****'::pg_catalog.text"},
	"pg_stat_ssl":        {"client_dn": "'****'::pg_catalog.text"},
}

// secretSettings are settings whose values name files, commands or passwords.
const secretSettings = `(select * from pg_catalog.pg_settings as sallyport_source where sallyport_source.name operator(pg_catalog.!~*) '` + hiddenSettings + `')`

// maskSystem masks what the system catalogs would show of others.
func maskSystem(cat *Catalog, masked map[string]*maskedRelation) {
	for name, secrets := range secretSystemColumns {
		rel := cat.Relation("pg_catalog", name)
		if rel == nil {
			continue
		}
		m := &maskedRelation{rel: rel, system: true, masks: make(map[string]string), with: make(map[string]string)}
		var places []string
		for i, col := range rel.Columns {
			places = append(places, "{"+col.Name+"}", fmt.Sprintf("c%d", i+1))
		}
		for column, mask := range secrets {
			if rel.Column(column) != nil {
				m.masks[column], m.with[column] = strings.NewReplacer(places...).Replace(mask), "redact"
			}
		}
		if len(m.masks) == len(secrets) {
			masked[key("pg_catalog", name)] = m
		}
	}
	masked[key("pg_catalog", "pg_settings")] = &maskedRelation{
		rel: &Relation{Schema: "pg_catalog", Name: "pg_settings"}, system: true, query: secretSettings,
	}
}

// settableSettings may be changed by SET. A value list restricts what to.
var settableSettings = map[string][]string{
	"application_name": nil, "bytea_output": nil, "check_function_bodies": nil, "constraint_exclusion": nil,
	"cursor_tuple_fraction": nil, "datestyle": nil, "default_table_access_method": nil, "default_tablespace": nil,
	"default_toast_compression": nil, "default_transaction_deferrable": nil, "default_transaction_isolation": nil,
	"default_transaction_read_only": nil, "enable_async_append": nil, "enable_bitmapscan": nil, "enable_gathermerge": nil,
	"enable_hashagg": nil, "enable_hashjoin": nil, "enable_incremental_sort": nil, "enable_indexonlyscan": nil,
	"enable_indexscan": nil, "enable_material": nil, "enable_memoize": nil, "enable_mergejoin": nil, "enable_nestloop": nil,
	"enable_parallel_append": nil, "enable_parallel_hash": nil, "enable_partition_pruning": nil,
	"enable_partitionwise_aggregate": nil, "enable_partitionwise_join": nil, "enable_seqscan": nil, "enable_sort": nil,
	"enable_tidscan": nil, "extra_float_digits": nil, "from_collapse_limit": nil, "geqo": nil, "geqo_threshold": nil,
	"gin_fuzzy_search_limit": nil, "hash_mem_multiplier": nil, "idle_in_transaction_session_timeout": nil,
	"idle_session_timeout": nil, "intervalstyle": nil, "jit": nil, "join_collapse_limit": nil, "lc_monetary": nil,
	"lc_numeric": nil, "lc_time": nil, "lock_timeout": nil, "maintenance_work_mem": nil,
	"max_parallel_maintenance_workers": nil, "max_parallel_workers": nil, "max_parallel_workers_per_gather": nil,
	"min_parallel_index_scan_size": nil, "min_parallel_table_scan_size": nil, "parallel_leader_participation": nil,
	"parallel_setup_cost": nil, "parallel_tuple_cost": nil, "plan_cache_mode": nil, "quote_all_identifiers": nil,
	"random_page_cost": nil, "row_security": nil, "search_path": nil, "seq_page_cost": nil, "statement_timeout": nil,
	"synchronize_seqscans": nil, "synchronous_commit": nil, "tcp_keepalives_count": nil, "tcp_keepalives_idle": nil,
	"tcp_keepalives_interval": nil, "tcp_user_timeout": nil, "temp_buffers": nil, "timezone": nil,
	"transaction_deferrable": nil, "transaction_isolation": nil, "transaction_read_only": nil, "transaction_timeout": nil,
	"vacuum_cost_delay": nil, "vacuum_cost_limit": nil, "work_mem": nil, "xmlbinary": nil, "xmloption": nil,
	"default_text_search_config": nil, "effective_cache_size": nil, "effective_io_concurrency": nil,
	"array_nulls": nil, "backend_flush_after": nil, "client_connection_check_interval": nil, "commit_siblings": nil,
	"cpu_index_tuple_cost": nil, "cpu_operator_cost": nil, "cpu_tuple_cost": nil, "default_statistics_target": nil,
	"enable_distinct_reordering": nil, "enable_group_by_reordering": nil,
	"enable_presorted_aggregate": nil, "enable_self_join_elimination": nil, "geqo_effort": nil, "geqo_generations": nil,
	"geqo_pool_size": nil, "geqo_seed": nil, "geqo_selection_bias": nil, "icu_validation_level": nil, "io_combine_limit": nil,
	"jit_above_cost": nil, "jit_inline_above_cost": nil, "jit_optimize_above_cost": nil, "logical_decoding_work_mem": nil,
	"maintenance_io_concurrency": nil, "recursive_worktable_factor": nil, "seed": nil, "stats_fetch_consistency": nil,
	"temp_tablespaces": nil, "vacuum_buffer_usage_limit": nil, "vacuum_cost_page_dirty": nil, "vacuum_cost_page_hit": nil,
	"vacuum_cost_page_miss": nil, "vacuum_failsafe_age": nil, "vacuum_freeze_min_age": nil, "vacuum_freeze_table_age": nil,
	"vacuum_multixact_failsafe_age": nil, "vacuum_multixact_freeze_min_age": nil, "vacuum_multixact_freeze_table_age": nil,
	"debug_parallel_query": {"off", "false"}, "force_parallel_mode": {"off", "false"}, "ssl_renegotiation_limit": {"0"},
	"restrict_nonsystem_relation_kind": {"", "view", "foreign-table", "view, foreign-table"},
	"session_replication_role":         {"origin"},
	"client_min_messages":              {"error", "warning", "notice", "info"},
	"client_encoding":                  {"utf8", "utf-8", "utf_8", "unicode"},
	"standard_conforming_strings":      {"on", "true", "yes", "1"},
	"escape_string_warning":            {"on", "off", "true", "false"},
	"transform_null_equals":            {"off", "false", "no", "0"},
}

// shownSettings may be read by SHOW beside those that may be set.
var shownSettings = wordSet(`server_version server_version_num server_encoding is_superuser session_authorization
	integer_datetimes max_identifier_length max_index_keys block_size wal_level in_hot_standby lc_collate lc_ctype
	lc_messages max_connections default_with_oids role max_function_args segment_size data_checksums
	array_nulls backslash_quote shared_buffers port listen_addresses max_wal_size autovacuum log_timezone
	password_encryption ssl huge_pages hot_standby wal_block_size max_prepared_transactions max_locks_per_transaction
	track_activities track_counts track_io_timing fsync full_page_writes max_worker_processes superuser_reserved_connections
	archive_mode recovery_target_timeline timezone_abbreviations icu_validation_level`)

// SettingAllowed says whether a client may give a setting a value, by SET or at login. Names are in lower case.
func SettingAllowed(name, value string) bool {
	allowed, known := settableSettings[name]
	if !known || allowed == nil {
		return known
	}
	for _, v := range allowed {
		if strings.EqualFold(v, value) {
			return true
		}
	}
	return false
}
