-- limit_lock_wait: have statements of this transaction wait for a lock no longer than $1 milliseconds.

select set_config('lock_timeout', $1::integer::text, true)
