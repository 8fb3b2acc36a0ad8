-- hold_member: lock the workflows around job $1, and its record, until the end of the transaction.

select pgqueue.hold_member($1)
