-- extend: have the group of job $1 take the members of workflow $2, which was written in this transaction.
--
-- Returns null, or why it does not.

select pgqueue.extend($1, $2)
