-- limit_lock_wait: let statements of this transaction wait for a lock for $1 milliseconds at most.

select set_config('lock_timeout', $1::integer::text, true)
